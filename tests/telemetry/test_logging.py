"""Every line in one shape, whoever wrote it."""

import io
import json
import logging
import time
from typing import Any

import pytest
import structlog

from aitp_cp.protocol.bearer_token import new_token
from aitp_cp.telemetry.logging import LEVELS, TRACE, configure, flush
from tests.support.app import API_KEY
from tests.support.listening import listening

pytestmark = pytest.mark.usefixtures("own_logging")

ACCESS = {"method": "GET", "route": "/api/events", "status": 200, "ms": 1.2, "actor": "anonymous", "client_ip": "::1"}


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    flush()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_lines_and_a_librarys_have_one_shape() -> None:
    stream = io.BytesIO()
    configure("info", json=True, write=stream.write)
    structlog.get_logger("ours").warning("careful", number=1)
    logging.getLogger("uvicorn.error").info("started on %s", "a port")
    ours, theirs = lines(stream)
    assert ours.pop("timestamp").endswith("Z")
    assert theirs.pop("timestamp").endswith("Z")
    assert ours == {"number": 1, "event": "careful", "logger": "ours", "level": "warning"}
    assert theirs == {"event": "started on a port", "logger": "uvicorn.error", "level": "info"}


def test_an_error_has_its_stack_without_what_the_database_quotes() -> None:
    stream = io.BytesIO()
    configure("info", json=True, write=stream.write)
    secret = "hidden"  # noqa: F841 - a local variable that must not be printed
    try:
        raise ValueError("null value\nDETAIL:  Failing row contains (s3cret,\n s3cret).\nHINT:  try")
    except ValueError:
        structlog.get_logger("ours").exception("failed")
    try:
        raise RuntimeError("invalid input for query argument $2: 's3cret' (expected str)")
    except RuntimeError:
        logging.getLogger("theirs").exception("failed too")
    first, second = lines(stream)
    assert first["exception"].startswith("Traceback (most recent call last)")
    assert first["exception"].endswith("ValueError: null value\nDETAIL: withheld\nHINT:  try")
    assert second["exception"].endswith("RuntimeError: invalid input for query argument $2")
    assert b"hidden" not in stream.getvalue().replace(b'secret = "hidden"', b"")


def test_a_librarys_line_shows_no_credential() -> None:
    stream = io.BytesIO()
    configure("trace", json=True, write=stream.write)
    key, token = new_token(), f"aca_{'x' * 100}.{'y' * 43}"
    logging.getLogger("a.library").log(TRACE, "scope=%s", {"query_string": f"key={key}&token={token}".encode()})
    assert [line["event"] for line in lines(stream)] == ["scope={'query_string': b'key=acp_<...>&token=aca_<...>'}"]


@pytest.mark.anyio
async def test_no_level_shows_a_url(database_url: str) -> None:
    """A client may have put its key there, and keys of API_KEYS look like anything."""
    stream = io.BytesIO()
    configure("trace", json=True, write=stream.write)
    async with listening(database_url) as server:
        await server.ask(f"GET /api/{API_KEY}?key={API_KEY} HTTP/1.0\r\n\r\n".encode())
    assert "Started server process" in str(lines(stream))
    assert API_KEY not in str(lines(stream))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("json", [True, False])
def test_every_level_can_be_asked_for(level: str, json: bool) -> None:
    stream = io.BytesIO()
    configure(level, json=json, write=stream.write)
    log = structlog.get_logger("ours")
    log.debug("a debug line")
    log.critical("a critical line")
    logging.getLogger("theirs").debug("a library's debug line")
    flush()
    text = stream.getvalue().decode()
    assert "a critical line" in text
    assert ("a debug line" in text) == (level in {"trace", "debug"})
    assert ("a library's debug line" in text) == (level == "trace")


def test_a_database_that_is_away_fills_no_log_with_stacks() -> None:
    stream = io.BytesIO()
    configure("info", json=True, write=stream.write)
    pool = logging.getLogger("asyncpg.pool")
    pool.warning("Failed to restore the pool connection floor; retrying", exc_info=OSError())
    pool.error("something else")
    assert [line["event"] for line in lines(stream)] == ["something else"]


def test_what_cannot_be_json_is_written_all_the_same() -> None:
    stream = io.BytesIO()
    configure("info", json=True, write=stream.write)
    structlog.get_logger("ours").info("odd \ud800", big=2**70, thing=object())
    (line,) = lines(stream)
    assert (line["event"], line["big"]) == ("odd \ud800", 2**70)


def test_a_reader_that_has_gone_fails_nothing() -> None:
    stream = io.BytesIO()
    configure("info", json=True, write=stream.write)
    stream.close()
    structlog.get_logger("ours").info("into the void")
    logging.getLogger("theirs").info("into the void")


def test_an_access_line_is_cheap() -> None:
    configure("info", json=True, write=io.BytesIO().write)
    log = structlog.get_logger("ours")
    spent = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(1000):
            log.info("request", **ACCESS)
        spent.append(time.process_time() - began)
    assert min(spent) < 0.1  # 10,000 lines a second of one core
