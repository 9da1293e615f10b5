"""The list as served: content, caching, renewal."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from aitp_cp.db import urgent
from tests.revocation.support import LIST, get_list, listed, revoke
from tests.support.app import App, running_app
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def insert(app: App, jti: UUID, revoked_at: str, reason: str | None = None) -> None:
    """A row that another control plane wrote, without an event."""
    async with app.rt.db.connection() as conn:
        statement = "INSERT INTO revocation_entries (jti, revoked_at, reason) VALUES ($1, $2::text::timestamptz, $3)"
        await conn.execute(statement, jti, revoked_at, reason)


async def test_an_empty_list_is_a_list(app: App) -> None:
    response = await app.http.get(LIST)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "max-age=60"
    body = response.json()["revocation_list"]
    assert (body["entries"], body["issuer"], body["version"]) == ([], app.rt.signer.aid, "aitp/0.3")
    assert body["expires_at"] - body["published_at"] == 3600


async def test_the_lifetime_is_configured(database_url: str) -> None:
    async with running_app(database_url, REVOCATION_LIST_TTL_SECS="120") as app:
        body = (await app.http.get(LIST)).json()["revocation_list"]
    assert body["expires_at"] - body["published_at"] == 120


async def test_entries_hold_seconds_and_a_reason_only_if_there_is_one(app: App) -> None:
    first = await revoke(app, revokedAt="2026-01-02T03:04:05.999Z", reason='quote " and \u2028 and \U0001f512')
    second = await revoke(app, revokedAt="2026-01-02T03:04:06.001Z")
    entries = (await app.http.get(LIST)).json()["revocation_list"]["entries"]
    assert entries == [
        {"jti": first, "revoked_at": 1767323045, "reason": 'quote " and \u2028 and \U0001f512'},
        {"jti": second, "revoked_at": 1767323046},
    ]


async def test_entries_are_ordered_by_the_second_that_is_shown_then_by_id(app: App) -> None:
    same = sorted(str(uuid4()) for _ in range(4))
    for place, jti in enumerate((same[2], same[0], same[3], same[1])):
        await revoke(app, jti, revokedAt=f"2026-01-02T03:04:05.{place}00Z")
    later = await revoke(app, revokedAt="2026-01-02T03:04:06.000Z")
    earlier = await revoke(app, revokedAt="2026-01-02T03:04:04.999Z")
    assert await get_list(app) == [earlier, *same, later]


async def test_a_list_is_in_order_across_the_chunks_it_is_read_in(app: App) -> None:
    async with app.rt.db.connection() as conn:
        await conn.execute(
            "INSERT INTO revocation_entries (jti, revoked_at)"
            " SELECT gen_random_uuid(), to_timestamp(1000000 + (n * 7919) % 2503) FROM generate_series(1, 2503) AS n"
        )
        rows = await conn.fetch("SELECT jti::text FROM revocation_entries ORDER BY revoked_at, jti")
    assert await get_list_anew(app) == [row[0] for row in rows]


async def get_list_anew(app: App) -> list[str]:
    """The list once a minute has gone by."""
    app.clock.ahead += timedelta(seconds=61)
    return await get_list(app)


async def test_ids_that_the_sdk_does_not_sign_are_left_out_and_counted(app: App) -> None:
    kept = await revoke(app)
    for jti in ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "00000000-0000-0000-0000-000000000000"):
        await revoke(app, jti)
    assert await get_list(app) == [kept]
    assert "aitp_control_plane_revocation_unsigned_entries 2.0" in (await app.get("/api/metrics")).text


async def test_whatever_an_older_control_plane_stored_is_listed(app: App) -> None:
    jtis = sorted(uuid4() for _ in range(4))
    moments = ("-infinity", "1969-01-01T00:00:00Z", "20000-01-01T00:00:00Z", "infinity")
    for jti, moment in zip(jtis, moments, strict=True):
        await insert(app, jti, moment, "x" * 5000)
    assert await get_list_anew(app) == list(map(str, jtis))  # two at the first second there is, two at the last


async def test_a_revocation_is_in_the_next_answer(app: App) -> None:
    for _ in range(20):
        jti = await revoke(app)
        assert jti in await get_list(app)


async def test_a_repeated_revocation_is_in_the_next_answer_too(app: App) -> None:
    jti = uuid4()
    await get_list(app)
    await insert(app, jti, "2026-01-02")  # somebody else's, of which nothing has been heard yet
    await revoke(app, jti)
    assert str(jti) in await get_list(app)


async def test_an_unchanged_list_is_served_without_the_database(app: App) -> None:
    first = await app.http.get(LIST)
    async with AsyncExitStack() as everything:
        for _ in range(app.rt.db.max_size):
            with urgent():
                await everything.enter_async_context(app.rt.db.connection())
        async with asyncio.timeout(4):
            second = await app.http.get(LIST)
    assert (second.content, second.headers["ETag"]) == (first.content, first.headers["ETag"])


async def test_a_list_of_a_minute_ago_is_signed_anew(app: App) -> None:
    jti = await revoke(app)
    first = await app.http.get(LIST)
    published: int = first.json()["revocation_list"]["published_at"]

    async def a_second_has_passed() -> bool:
        """Signatures are made to the second: the same list within one second is the same bytes."""
        return time.time() >= published + 1

    await until(a_second_has_passed, 10)
    app.clock.ahead = timedelta(seconds=61)
    second = await app.http.get(LIST)
    assert listed(second) == listed(first) == [jti]
    assert second.json()["revocation_list"]["published_at"] > published
    assert second.headers["ETag"] != first.headers["ETag"]


async def test_a_list_is_renewed_before_anybody_has_to_wait(app: App) -> None:
    await get_list(app)
    jti = uuid4()
    await insert(app, jti, "2026-01-02")
    app.clock.ahead = timedelta(seconds=50)  # not too old to be served, old enough to be renewed

    async def is_listed() -> bool:
        return str(jti) in await get_list(app)

    await until(is_listed, 10)


async def test_a_known_etag_needs_no_body(app: App) -> None:
    for path in (LIST, "/api/well-known/aitp-revocation-list"):
        etag = (await app.http.get(path)).headers["ETag"]
        assert etag.startswith('"')
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            response = await app.http.get(path, headers={"If-None-Match": known})
            assert (response.status_code, response.content) == (304, b"")
            assert response.headers["ETag"] == etag
            assert response.headers["Cache-Control"] == "max-age=60"
        assert (await app.http.get(path, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_head_has_the_headers_of_get(app: App) -> None:
    got, head = await app.http.get(LIST), await app.http.head(LIST)
    assert (head.status_code, head.content) == (200, b"")
    assert [head.headers[name] for name in ("ETag", "Content-Length")] == [
        got.headers[name] for name in ("ETag", "Content-Length")
    ]


async def test_many_requests_share_one_renewal(app: App) -> None:
    await get_list(app)
    await revoke(app)
    responses = await asyncio.gather(*(app.http.get(LIST) for _ in range(50)))
    assert len({response.headers["ETag"] for response in responses}) == 1
    assert {len(listed(response)) for response in responses} == {1}


async def test_the_age_of_the_list_is_measured(app: App) -> None:
    await get_list(app)
    lines = (await app.get("/api/metrics")).text.splitlines()
    (age,) = [
        float(line.split()[1]) for line in lines if line.startswith("aitp_control_plane_revocation_list_age_seconds ")
    ]
    assert 0 <= age < 60
