"""What the log says of a failure of the database: words for what happens, and no text of the server."""

import asyncpg
import pytest

from aitp_cp.db.failures import reason
from aitp_cp.errors import DatabaseUnavailable


def raised(state: str) -> DatabaseUnavailable:
    """As the pool raises it, around what the server said, which may quote rows or passwords."""
    cause = asyncpg.PostgresError.new({"C": state, "M": "secret", "D": "secret"})
    try:
        raise DatabaseUnavailable from cause
    except DatabaseUnavailable as failure:
        return failure


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("53100", "its disk is full"),
        ("53200", "out of memory"),
        ("53300", "no connection left"),
        ("55000", "accepts no connections now"),
        ("55P03", "a lock was held for too long"),
        ("57014", "took too long"),
        ("57P01", "told to end the connection"),
        ("57P02", "has crashed"),
        ("57P03", "starting or stopping"),
        ("25006", "takes no writes"),
    ],
)
def test_an_outage_is_said_in_words(state: str, words: str) -> None:
    """Jobs, the listener and the tail log it: the name of the driver's exception alone explains nothing."""
    said = reason(raised(state))
    assert words in said
    assert said.endswith("Error)")
    assert "secret" not in said
