"""What needs an operator's attention now, worst first (contract, section 22).

Each source is read separately and for a bounded time, so that a failing one does not affect the others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

import structlog

from aitp_cp.clock import iso, iso_or_none
from aitp_cp.containment import reach
from aitp_cp.db import Connection
from aitp_cp.deliveries import outbox
from aitp_cp.deliveries import store as deliveries
from aitp_cp.events.tail import Tail
from aitp_cp.keys import store as keys
from aitp_cp.notes import store as notes
from aitp_cp.ops import store
from aitp_cp.ops.figures import Figures
from aitp_cp.ops.health import DatabaseProbe
from aitp_cp.ops.model import Attention, AttentionLine, Severity
from aitp_cp.registry import standing as registry
from aitp_cp.revocation.published import PublishedList
from aitp_cp.runtime import Runtime
from aitp_cp.sessions import store as sessions
from aitp_cp.web.memo import Memo
from aitp_cp.webhooks import store as webhooks

SHARED_FOR_SECS = 1.5
SOURCE_SECS = 1.0  # for one source: the first screen waits for all
MAX_NAMED = 10  # lines of one source

TAIL_SOON_SECS, TAIL_BAD_SECS = 2.0, 10.0
CLOCK_SOON_SECS, CLOCK_BAD_SECS = 2.0, 60.0  # as `check` says
OUTBOX_EVENTS = 10_000  # as the alert AitpWebhookOutboxLag
LIST_STARTS_SECS = 5.0  # the first list of a process
WAITING = timedelta(minutes=5)  # the oldest delivery that is due
FEWEST_FAILURES, TIMES_USUAL = 10, 3
EXPIRING = timedelta(hours=24)
ENDING_DAYS = 14  # of keys, as `check` says
NEWEST_AGENTS = 1000  # among which owners and look-alikes are looked for

log = structlog.get_logger("aitp_cp.ops")

Lines = Iterable[AttentionLine]
Source = Callable[[Runtime, Connection, datetime], Awaitable[Lines]]


class AttentionLines(Memo[Attention]):
    """The latest response, shared by all who ask within a second and a half."""

    def __init__(self) -> None:
        super().__init__(SHARED_FOR_SECS, 2**20)


async def attention(rt: Runtime) -> Attention:
    """Return what needs attention, worst first; `unknown` names the sources that could not be asked."""
    return await rt.get(AttentionLines).get(None, lambda: _gathered(rt))


async def _gathered(rt: Runtime) -> Attention:
    now = rt.clock()
    lines = list(_of_this_process(rt, now))
    unknown: list[str] = []
    is_up = await rt.get(DatabaseProbe).up()
    if not is_up:
        lines.insert(0, _line("bad", "database", "the database takes no writes: nothing can be registered or revoked"))
        unknown += SOURCES
    for name, source in SOURCES.items() if is_up else ():
        try:
            async with asyncio.timeout(SOURCE_SECS), rt.db.connection() as conn:
                lines += await source(rt, conn, now)
        except Exception as failure:
            log.warning("attention_source_failed", source=name, reason=type(failure).__name__)
            unknown.append(name)
    return Attention(sorted(lines, key=lambda line: line.severity != "bad"), unknown, iso(now))


def _line(
    severity: Severity,
    kind: str,
    sentence: str,
    target: str = "/system",
    *,
    since: datetime | None = None,
    count: int | None = None,
) -> AttentionLine:
    """Make a line; `target` is a page of the console."""
    return AttentionLine(severity, kind, sentence, f"/console{target}", iso_or_none(since), count)


def _of_this_process(rt: Runtime, now: datetime) -> Lines:
    """Return what is known without the database."""
    behind = rt.get(Tail).behind()
    if behind > TAIL_SOON_SECS:
        severity: Severity = "bad" if behind > TAIL_BAD_SECS else "soon"
        since = now - timedelta(seconds=behind)
        yield _line(severity, "tail", f"the log was last read to its end {behind:.0f} s ago", since=since)
    offset = rt.get(Figures).clock_offset_secs or 0.0
    if abs(offset) > CLOCK_SOON_SECS:
        severity = "bad" if abs(offset) > CLOCK_BAD_SECS else "soon"
        yield _line(severity, "clock", f"this process's clock is {offset:+.1f} s from the database's")
    if rt.settings.cp_aid_seed_hex is None:
        yield _line("soon", "signer", "CP_AID_SEED_HEX is not set: the identity changes with each start")
    yield from _list(rt)


def _list(rt: Runtime) -> Lines:
    """Return the signed list of revocations, as this process publishes it."""
    standing = rt.get(PublishedList).standing()
    target = "/revocations"
    starting = not standing.failing and standing.age_secs < LIST_STARTS_SECS
    if standing.age_secs >= standing.limit_secs or not (standing.exists or starting):
        yield _line("bad", "list", "there is no signed list that may be served: peers get 503", target)
    elif standing.failing:
        left = standing.limit_secs - standing.age_secs
        yield _line("bad", "list", f"the signed list cannot be renewed and is served for {left:.0f} s more", target)
    if standing.unsigned:
        sentence = "revoked tokens cannot be listed: their jti is no UUID version 4"
        yield _line("soon", "unsigned", sentence, target, count=standing.unsigned)


async def _breakers(rt: Runtime, conn: Connection, now: datetime) -> Lines:
    return [
        _line(
            "bad",
            "breaker",
            f"webhook {row.id} is not called after {row.failures} failures; next probe {_at(row.next_probe_at)}",
            f"/webhooks/{row.id}",
            since=row.opened_at,
            count=row.failures,
        )
        for row in await webhooks.broken(conn, MAX_NAMED)
    ]


async def _waiting(rt: Runtime, conn: Connection, now: datetime) -> Lines:
    lines = []
    oldest = await deliveries.oldest_due(conn)
    if oldest is not None and now - oldest > WAITING:
        lines.append(_line("soon", "deliveries", "the oldest delivery that is due waits", "/webhooks", since=oldest))
    lag = await outbox.lag(conn)
    if lag > OUTBOX_EVENTS:
        lines.append(_line("bad", "outbox", "events wait for their deliveries to be made", "/webhooks", count=lag))
    return lines


async def _failures(rt: Runtime, conn: Connection, now: datetime) -> Lines:
    failed = await sessions.failed(conn, now - timedelta(hours=1), now - timedelta(days=1))
    usual = (failed.day - failed.hour) / 23
    if failed.hour < FEWEST_FAILURES or failed.hour <= TIMES_USUAL * usual:
        return []
    times = f"{failed.hour / usual:.1f} times the usual" if usual else "none in the day before"
    named = f", {failed.of_aid} of the newest {failed.newest} with {failed.aid}" if failed.aid else ""
    sentence = f"failed handshakes within the last hour, {times}{named}"
    target = f"/sessions?{urlencode({'status': 'failed', 'since': iso(now - timedelta(hours=1))})}"
    return [_line("soon", "failures", sentence, target, count=failed.hour)]


async def _expiring(rt: Runtime, conn: Connection, now: datetime) -> Lines:
    until = now + EXPIRING
    count, first = await registry.expiring(conn, now, until)
    if not count:
        return []
    sentence = f"agents' manifests expire within 24 h, the first at {_at(first)}"
    target = f"/agents?{urlencode({'expiresBefore': iso(until)})}"
    return [_line("soon", "expiring", sentence, target, count=count)]


async def _names(rt: Runtime, conn: Connection, now: datetime) -> Lines:
    """Owners count only where somebody owns something: elsewhere nobody keeps them."""
    lines = []
    newest = await registry.newest_active(conn, now, NEWEST_AGENTS)
    owned = await notes.owners(conn, newest)
    if owned and len(owned) < len(newest):
        sentence = f"of the newest {len(newest)} agents have no owner"
        lines.append(_line("soon", "unowned", sentence, "/agents?unowned=true", count=len(newest) - len(owned)))
    alike = await registry.lookalikes_among(conn, newest, MAX_NAMED)
    for aid, other in alike:
        target = f"/agents/{quote(aid, safe='')}"
        lines.append(_line("soon", "lookalike", f"the name of {aid} looks like that of {other}", target))
    return lines


async def _keys(rt: Runtime, conn: Connection, now: datetime) -> Lines:
    lines = []
    ending = await keys.ending(conn, ENDING_DAYS)
    if ending:
        sentence = f"API keys expire within {ENDING_DAYS} days, the first at {_at(ending[0][2])}"
        lines.append(_line("soon", "keys", sentence, "/keys", count=len(ending)))
    if rt.settings.api_keys and (live := await keys.count_live(conn)):
        sentence = "keys of the database are live, but API_KEYS is still set: each of its keys may do everything"
        lines.append(_line("soon", "environment-keys", sentence, "/keys", count=live))
    return lines


async def _containments(rt: Runtime, conn: Connection, now: datetime) -> Lines:
    lines = []
    for open_ in await reach.unreached(conn, MAX_NAMED):
        confirmed, total = open_.peers.confirmed, open_.peers.total
        sentence = f"{confirmed} of {total} peers of {open_.aid}, which is contained, show that they know"
        target = f"/containments/{open_.id}"
        lines.append(_line("soon", "containment", sentence, target, since=open_.act_at, count=total - confirmed))
    return lines


async def _jobs(rt: Runtime, conn: Connection, now: datetime) -> Lines:
    failing = [job for job in await store.jobs(conn) if job.failing]
    return [
        _line("soon", "job", f"the latest run of the job {job.name} failed: {job.error}") for job in failing[:MAX_NAMED]
    ]


def _at(moment: datetime | None) -> str:
    return "unknown" if moment is None else iso(moment)


SOURCES: dict[str, Source] = {
    "breakers": _breakers,
    "deliveries": _waiting,
    "failures": _failures,
    "expiring": _expiring,
    "names": _names,
    "keys": _keys,
    "containments": _containments,
    "jobs": _jobs,
}
