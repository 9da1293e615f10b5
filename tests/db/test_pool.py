import pytest

from aitp_cp.db import Database
from aitp_cp.errors import DatabaseUnavailable

pytestmark = pytest.mark.anyio


async def test_a_server_that_refuses_the_connection_is_one_that_cannot_be_had(database_url: str) -> None:
    separator = "&" if "?" in database_url else "?"
    for url in (
        f"{database_url}{separator}options=-c%20no_such_setting%3D1",
        database_url.replace("/test_", "/no_such_database_"),
    ):
        with pytest.raises(DatabaseUnavailable):
            await Database(url, max_size=2).open()
