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


@pytest.mark.parametrize("trips", [AttributeError("'NoneType' object has no attribute 'bind_execute'"), None])
async def test_a_connection_that_was_lost_is_no_failure_of_ours(database_url: str, trips: Exception | None) -> None:
    """Lost under a prepared statement the driver raises AttributeError; later, that its pool has the connection."""
    async with running_app(database_url) as app:
        with pytest.raises(DatabaseUnavailable):
            await lose(app, trips)


async def test_a_mistake_with_an_open_connection_stays_one(database_url: str) -> None:
    async with running_app(database_url) as app:
        with pytest.raises(AttributeError):
            await mistake(app)


async def mistake(app: App) -> None:
    async with app.rt.db.connection() as conn:
        conn.no_such_method()  # type: ignore[attr-defined]


async def lose(app: App, trips: Exception | None) -> None:
    async with app.rt.db.connection() as borrowed:
        conn: Any = borrowed
        conn.terminate()
        if trips is not None:
            raise trips
        await conn.fetchval("SELECT 1")
