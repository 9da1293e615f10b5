"""Nobody gets a scope, a lifetime or a rate beyond his own, by any sequence of creating, rotating and changing keys."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aitp_cp.audit.model import Actor
from aitp_cp.clock import now
from aitp_cp.errors import ApiKeyExpired, ApiKeyRevoked, GrantExceeded, KeyNotActive
from aitp_cp.keys import service, store
from aitp_cp.keys.model import ApiKey, Grantor, KeyPatch, NewKey
from aitp_cp.protocol.scopes import Role, Scope
from tests.events.support import connected
from tests.keys.support import called, new_key
from tests.support.app import App

NOW = now()
DEFAULT_RATE = 600
SCOPES = [Scope.KEYS_ADMIN, Scope.EVENTS_READ, Scope.AUDIT_READ]
LAST = datetime.max.replace(tzinfo=NOW.tzinfo)

rates = st.none() | st.sampled_from([1, 100, 600, 601, 5000])
ends = st.none() | st.integers(1, 5)
news = st.builds(
    lambda scopes, end, rate: NewKey(
        "n", scopes=scopes, expires_at=None if end is None else (NOW + timedelta(end)).timestamp(), rate_per_min=rate
    ),
    st.lists(st.sampled_from(SCOPES), min_size=1),
    ends,
    rates,
)
# Who acts, on which key, and how; a number stands for one of the keys there are.
steps = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.integers(0, 30),
        news | st.sampled_from([0, 3600, 7 * 24 * 3600]) | rates.map(lambda rate: KeyPatch(rate_per_min=rate)),
    ),
    min_size=1,
    max_size=12,
)


def most(key: ApiKey) -> tuple[frozenset[str], datetime, int]:
    """What a key may do, until when, and how often."""
    return frozenset(key.scopes), key.expires_at or LAST, key.rate_per_min or DEFAULT_RATE


def grantor(key: ApiKey) -> Grantor:
    return Grantor(
        actor=Actor(key.actor, None),
        scopes=frozenset(map(Scope, key.scopes)),
        expires_at=key.expires_at,
        rate_per_min=key.rate_per_min or DEFAULT_RATE,
        default_rate=DEFAULT_RATE,
        key_id=key.id,
    )


async def acted(conn: Any, by: ApiKey, on: ApiKey, act: Any) -> ApiKey:
    """Let the key `by` do something; return the key that it made or changed."""
    if isinstance(act, NewKey):
        id = (await service.create(conn, act, grantor(by), NOW)).id
    elif isinstance(act, KeyPatch):
        id = (await service.update(conn, on.id, act, grantor(by), NOW)).id
    else:
        id = (await service.rotate(conn, on.id, act, grantor(by), NOW)).id
    [made] = await store.find(conn, [id])
    return made


async def play(dsn: str, first: NewKey, moves: list[tuple[int, int, Any]]) -> None:
    async with connected(dsn) as conn:
        transaction = conn.transaction()
        await transaction.start()
        owner = Grantor(actor=Actor("cli", None))
        bound = NewKey("bound", scopes=[*(first.scopes or ()), Scope.KEYS_ADMIN], expires_at=first.expires_at)
        [root] = await store.find(conn, [(await service.create(conn, bound, owner, NOW)).id])
        [above] = await store.find(
            conn, [(await service.create(conn, NewKey("above", role=Role.ADMIN), owner, NOW)).id]
        )
        keys = [root]
        for who, whom, act in moves:
            actors = await store.find(conn, [key.id for key in keys])
            by = next(key for key in actors if key.id == keys[who % len(keys)].id)
            on = [*actors, above][whom % (len(actors) + 1)]
            try:
                async with conn.transaction():
                    made = await acted(conn, by, on, act)
            except (GrantExceeded, ApiKeyExpired, KeyNotActive):
                continue
            assert on.id != above.id or isinstance(act, NewKey), "a key changed one that stands above it"
            for made_of, caller in zip(most(made), most(by), strict=True):
                assert made_of <= caller  # type: ignore[operator]
            for made_of, caller in zip(most(made), most(root), strict=True):
                assert made_of <= caller  # type: ignore[operator]
            keys = [made if key.id == made.id else key for key in keys]
            keys += [made] if made.id not in {key.id for key in keys} else []
        await transaction.rollback()


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(first=news, moves=steps)
def test_no_sequence_of_steps_leads_beyond_the_first_key(module_database_url: str, first: NewKey, moves: Any) -> None:
    asyncio.run(play(module_database_url, first, moves))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "admin"}, "scopes"),
        ({"scopes": ["audit:read"]}, "scopes"),
        ({"scopes": ["keys:admin"], "expiresAt": "9999-01-01T00:00:00Z"}, "expiresAt"),
        ({"scopes": ["keys:admin"]}, "expiresAt"),
        ({"scopes": ["keys:admin"], "expiresAt": 1, "ratePerMin": 51}, "ratePerMin"),
    ],
)
async def test_a_refusal_names_what_goes_beyond(app: App, body: dict[str, Any], field: str) -> None:
    ends = int(app.clock().timestamp()) + 3600
    own = {"expiresAt": ends, "ratePerMin": 50} if field != "scopes" else {}
    key = await new_key(app, scopes=["keys:admin"], **own)
    asked = {"name": "n", **body, **({"expiresAt": ends} if body.get("expiresAt") == 1 else {})}
    response = await called(app, key, "POST", "/api/keys", json=asked)
    assert (response.status_code, response.json()["code"], response.json()["field"]) == (403, "GRANT_EXCEEDED", field)


@pytest.mark.anyio
async def test_a_key_cannot_raise_itself_or_rotate_a_stronger_one(app: App) -> None:
    strong = await new_key(app, role="admin")
    weak = await new_key(app, scopes=["keys:admin"], ratePerMin=50)
    for target, method, path, body in (
        (weak, "PATCH", "", {"ratePerMin": 51}),
        (weak, "PATCH", "", {"ratePerMin": None}),
        (strong, "PATCH", "", {"name": "mine"}),
        (strong, "POST", "/rotate", {}),
    ):
        response = await called(app, weak, method, f"/api/keys/{target['id']}{path}", json=body)
        assert (response.status_code, response.json()["code"]) == (403, "GRANT_EXCEEDED"), body


@pytest.mark.anyio
async def test_a_key_that_is_revoked_meanwhile_makes_no_other(app: App) -> None:
    """The gate has let the request in; the transaction looks again."""
    key = await new_key(app)
    [row] = await _rows(app, key["id"])
    async with app.rt.db.transaction() as conn:
        await service.revoke(conn, row.id, None, Actor("cli", None), app.clock())
    for attempt in (NewKey("n", role=Role.AUDITOR), 60, KeyPatch(name="x")):
        async with app.rt.db.connection() as conn:
            with pytest.raises(ApiKeyRevoked):
                await acted(conn, row, row, attempt)


async def _rows(app: App, id: str) -> list[ApiKey]:
    async with app.rt.db.connection() as conn:
        return await store.find(conn, [UUID(id)])
