"""A raw token is never stored or streamed, wherever a reporter put it (row A8)."""

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from aitp_cp.events.tail import Tail
from tests.support.agents import handshake, new_agent
from tests.support.app import AUTH, App, running_app

pytestmark = pytest.mark.anyio

ALICE, BOB = new_agent(), new_agent()
TOKEN = handshake(ALICE, BOB).initiator.token
TEXT = "sha256:" + hashlib.sha256(TOKEN.encode()).hexdigest()
SECRETS = TOKEN.split(".")[1:]

TYPES = (
    "handshake.started",
    "handshake.complete",
    "handshake.failed",
    "tct.issued",
    "tct.revoked",
    "delegation.issued",
    "delegation.revoked",
    "capability.invoked",
)
FORMS = (
    "{}",
    "Bearer {}",
    "it said {}.",
    "https://x.example/cb?token={}&x=1#top",
    '{{"authorization":"{}"}}',
    "a.b.{},c",
)
PLAIN = "a"
CLAIMS = {"jti": "6f9619ff-8b86-4d11-b42d-00c04fc964ff", "iss": PLAIN, "sub": PLAIN, "aud": PLAIN, "grants": [PLAIN]}
TCT = {"token": PLAIN, "claims": {**CLAIMS, "cnf": {"jkt": PLAIN}, "voucher": PLAIN, "chain": [PLAIN]}, PLAIN: [PLAIN]}
ITEM: dict[str, Any] = {
    "session_id": PLAIN,
    "run_id": PLAIN,
    "aid_a": PLAIN,
    "aidB": PLAIN,
    "grants": [PLAIN],
    "source": PLAIN,
    "playground": {"runId": PLAIN},
    PLAIN: PLAIN,
    "payload": {
        "tct": TCT,
        "tcts": [TCT],
        "delegation": {**CLAIMS, "parent_jti": PLAIN, "delegator": PLAIN},
        "error": {"message": PLAIN, "detail": [PLAIN]},
        "boundary": PLAIN,
        "role": PLAIN,
        "cnf": PLAIN,
        "capability": {"name": PLAIN},
        "grants": [PLAIN],
        PLAIN: PLAIN,
    },
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every text, and of every name that stands for any name."""
    if isinstance(value, str):
        yield path
    for key, member in (
        value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    ):
        if key == PLAIN:
            yield (*path, (key,))
        yield from places(member, (*path, key))


def planted(path: tuple[Any, ...], text: str) -> dict[str, Any]:
    item = copy.deepcopy(ITEM)
    at: Any = item
    for step in path[:-1]:
        at = at[step]
    if isinstance(path[-1], tuple):
        at[text] = at.pop(PLAIN)
    else:
        at[path[-1]] = text
    return item


async def test_a_token_anywhere_in_an_item_is_stored_nowhere(database_url: str) -> None:
    """Row A8: only strings of the payload that are a token as a whole were redacted."""
    async with running_app(database_url) as app:
        events = [
            {"id": number} | planted(path, form.format(TOKEN)) | {"type": TYPES[number % len(TYPES)], "ts": number}
            for number, (path, form) in enumerate((path, form) for path in places(ITEM) for form in FORMS)
        ]
        events += [{"type": kind, "ts": 1, "session_id": "s", "payload": TOKEN} for kind in TYPES]
        events += [
            {"type": TOKEN, "ts": "never"},
            {"ts": TOKEN, "id": TOKEN},
            {"type": "x", TOKEN: TOKEN, "playground": TOKEN},
        ]
        for start in range(0, len(events), 100):
            response = await app.post("/api/events", events[start : start + 100])
            assert response.status_code == 200, response.text
            assert not holds_token(response.text)
        dumped = await dump(app)
        assert dumped.count(TEXT.removeprefix("sha256:")) > len(events) / 2
        assert not holds_token(dumped)
        assert not any(holds_token(frame.data.decode()) for frame in app.rt.get(Tail).ring._frames)


async def test_a_token_in_an_item_that_is_refused_is_not_told_either(database_url: str) -> None:
    """Row A8: the answer names the member at fault, and the type of a payload that is too large."""
    async with running_app(database_url) as app:
        response = await app.post("/api/events", [{f"x{TOKEN}": "\0"}, {f"{TOKEN}\0": 1}])
        assert response.json()["dropped"] == 2
        assert not holds_token(response.text)
        response = await app.post("/api/events", [{"type": f"x {TOKEN}", "payload": "x" * 70_000}])
        assert (response.status_code, holds_token(response.text)) == (413, False)


async def test_escapes_do_not_hide_a_token(database_url: str) -> None:
    """Row A8: JSON can spell `eyJ` as `\\u0065yJ`, and `token` as `\\u0074oken`."""
    body = b'[{"payload":{"a":"see \\u0065%s","tct":{"\\u0074oken":"opaque-secret"}}}]' % TOKEN[1:].encode()
    async with running_app(database_url) as app:
        await app.http.post("/api/events", content=body, headers=AUTH)
        [event] = (await app.get("/api/events/history")).json()["events"]
        digest = hashlib.sha256(b"opaque-secret").hexdigest()
        assert event["payload"] == {"a": f"see {TEXT}", "tct": {"token": {"sha256": digest, "verdict": "none"}}}


async def test_tokens_are_kept_where_the_operator_says_so(database_url: str) -> None:
    """Row A8: `EVENT_TOKEN_REDACTION=false`."""
    async with running_app(database_url, EVENT_TOKEN_REDACTION="false") as app:
        event = {"session_id": "s", "payload": {"tct": {"token": TOKEN}, "note": f"Bearer {TOKEN}"}}
        await app.post("/api/events", [event])
        [shown] = (await app.get("/api/events/history")).json()["events"]
        assert shown["payload"] == event["payload"]


def holds_token(text: str) -> bool:
    return any(secret in text for secret in SECRETS)


async def dump(app: App) -> str:
    """Every row of every table, as text."""
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    async with app.rt.db.connection() as conn:
        rows = [
            str(row[0])
            for table in await conn.fetch(tables)
            for row in await conn.fetch(f'SELECT found::text FROM "{table[0]}" AS found')
        ]
    assert len(rows) > 100
    return "\n".join(rows)
