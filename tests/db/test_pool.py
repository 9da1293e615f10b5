from typing import Any

import pytest

from aitp_cp.db import Database
from aitp_cp.errors import DatabaseUnavailable
from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio


async def test_a_server_that_refuses_the_connection_is_one_that_cannot_be_had(database_url: str) -> None:
    separator = "&" if "?" in database_url else "?"
    for url in (
        f"{database_url}{separator}options=-c%20no_such_setting%3D1",
        database_url.replace("/test_", "/no_such_database_"),
    ):
        with pytest.raises(DatabaseUnavailable):
            await Database(url, max_size=2).open()


async def test_a_connection_lost_under_a_prepared_statement_is_no_failure_of_ours(database_url: str) -> None:
    """asyncpg raises AttributeError then; the same of a connection that is open is a mistake, and stays one."""
    async with running_app(database_url) as app:
        with pytest.raises(DatabaseUnavailable):
            await trip(app, is_lost=True)
        with pytest.raises(AttributeError):
            await trip(app, is_lost=False)


async def trip(app: App, *, is_lost: bool) -> None:
    async with app.rt.db.connection() as borrowed:
        conn: Any = borrowed
        if is_lost:
            conn.terminate()
        raise AttributeError("'NoneType' object has no attribute 'bind_execute'")
