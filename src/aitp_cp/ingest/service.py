"""One group of reports into the database (contract, section 9)."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from aitp_cp.containment import service as containment
from aitp_cp.db import Connection, Database
from aitp_cp.db.locks import AgentsBusy
from aitp_cp.errors import AppError, Conflict, IngestBusy
from aitp_cp.events import service as log
from aitp_cp.events.model import NewEvent
from aitp_cp.events.projection import Caught
from aitp_cp.idempotency import service as idempotency
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.ingest import alarms
from aitp_cp.ingest.model import IngestAnswer, Stored, StoredGroup, Submission
from aitp_cp.ingest.parties import Parties
from aitp_cp.protocol import json_numbers
from aitp_cp.protocol.reports import MAX_PROBLEMS, Problem, Report
from aitp_cp.registry import presence
from aitp_cp.sessions import service as sessions
from aitp_cp.tcts import service as tcts
from aitp_cp.tcts.claims import ISSUER, SUBJECT, as_aid, reported_token

# In lock order: the graph of tokens before any row, tokens before sessions. Agents and the log come last.
PROJECTIONS = (tcts.PROJECTION, sessions.PROJECTION)

MAX_ATTEMPTS = 20  # each one follows a commit of another group that holds some of the same events


class Overtaken(Exception):
    """Another transaction stored some of the group's ids first, perhaps with other bodies: this one must go."""


async def store(db: Database, submissions: Sequence[Submission], now: datetime) -> list[Stored | AppError]:
    """Store a group of batches and the responses to them, in one transaction; raises what the database raises.

    A batch that names an agent which is being contained for longer than the group waits is refused with `IngestBusy`.
    """
    busy: set[int] = set()
    for _ in range(MAX_ATTEMPTS):
        rest = [submission for index, submission in enumerate(submissions) if index not in busy]
        try:
            async with db.transaction() as conn:
                stored = iter(await _store_in(conn, rest, now) if rest else [])
        except (Overtaken, Conflict):  # the server ends one of those that wait for each other, whose fault it is or not
            continue
        except AgentsBusy as held:
            busy |= {index for index, each in enumerate(submissions) if _names(each, held.aids, now)}
            continue
        return [_busy() if index in busy else next(stored) for index in range(len(submissions))]
    raise Conflict(headers={"Retry-After": "1"})


def _names(submission: Submission, aids: frozenset[str], now: datetime) -> bool:
    return not aids.isdisjoint(tcts.parties(submission.batch.reports, now))


def _busy() -> IngestBusy:
    sentence = "an agent that the batch names is being contained: send it again"
    return IngestBusy(sentence, headers={"Retry-After": "1"})


async def _store_in(conn: Connection, submissions: Sequence[Submission], now: datetime) -> list[Stored | AppError]:
    claims = await idempotency.claim(conn, [submission.once for submission in submissions])
    fresh = [submission for submission, claim in zip(submissions, claims, strict=True) if claim is None]
    stored = await store_group(conn, [report for submission in fresh for report in submission.batch.reports], now)
    counts = [_counted(submission, stored) for submission in fresh]
    kept = await idempotency.keep(
        conn,
        [(submission.once, ApiResponse(200, counted)) for submission, counted in zip(fresh, counts, strict=True)],
        now,
    )
    done = iter([Stored(response, counted, stored.seen) for response, counted in zip(kept, counts, strict=True)])
    return [_settled(claim) if claim is not None else next(done) for claim in claims]


async def store_group(conn: Connection, reports: Sequence[Report], now: datetime) -> StoredGroup:
    """Store what is new of `reports` and everything that follows from it.

    Raises `Overtaken` when the caller must roll back and try again: what is not stored may not stay projected. A
    constant number of statements, whatever the size of the group. Lock order: the graph of tokens, rows in key order
    (tokens, delegations, sessions, deny list, agents), the log last.
    """
    known = await log.known(conn, [report.id for report in reports]) if reports else set()
    # The log keeps the first event of an id, so the projections must not see another one under the same id.
    fresh = list({report.id: report for report in reversed(reports) if report.id not in known}.values())[::-1]
    if not fresh:
        return StoredGroup(set(), {})
    parties = Parties(PROJECTIONS, fresh, now)
    refusals = await parties.refuse(conn, fresh)
    refused = {refusal.event_id for refusal in refusals}
    allowed = [report for report in fresh if report.id not in refused] if refused else fresh
    aids = {aid for report in allowed for aid in (report.aid_a, report.aid_b) if aid}
    aids |= {report.signer for report in fresh if report.signer is not None}
    caught: list[Caught] = []
    for projection in PROJECTIONS:
        effect = await projection.apply(conn, [report for report in allowed if report.type in projection.types], now)
        aids |= effect.aids
        refusals += effect.refusals
        caught += effect.caught
    if await parties.overtaken(conn, fresh):
        raise Overtaken
    follow = await containment.enforce(conn, caught, now) if caught else []
    seen = await presence.seen(conn, aids, now, _unsigned(fresh))
    forged = [alarms.event_of(id, alarm, now) for id, alarm in alarms.alarms_of(fresh).items()]
    new = await log.append(conn, [*map(_event, fresh), *follow, *forged], now)
    stored = {report.id for report in fresh}
    if not stored <= new.keys():
        raise Overtaken
    return StoredGroup(stored, {refusal.event_id: refusal for refusal in refusals}, seen)


def _counted(submission: Submission, stored: StoredGroup) -> IngestAnswer:
    """Count a batch and take its ids out of the new ones: the first batch that reports an event has inserted it.

    `errors` also names what is stored and projects nothing.
    """
    batch = submission.batch
    mine = {report.id for report in batch.reports} & stored.new
    stored.new.difference_update(mine)
    total = len(batch.reports)
    refusals = [(report.index, stored.refusals.get(report.id)) for report in batch.reports if stored.refusals]
    problems = [Problem(index, refusal.field, refusal.reason) for index, refusal in refusals if refusal is not None]
    errors = sorted([*batch.problems, *problems], key=lambda problem: problem.index)[:MAX_PROBLEMS]
    return IngestAnswer(total, len(mine), total - len(mine), batch.dropped, errors)


def _settled(claim: ApiResponse | AppError) -> Stored | AppError:
    return claim if isinstance(claim, AppError) else Stored(claim, None)


def _unsigned(reports: Sequence[Report]) -> Counter[str]:
    """Count the reports that should have been signed, by the agent that they speak for."""
    speakers = (_speaker(report) for report in reports if report.reporter.should_sign)
    return Counter(aid for aid in speakers if aid is not None)


def _speaker(report: Report) -> str | None:
    """Return the side whose report this seems to be: of a handshake the holder of the token, if nobody is named."""
    responds = isinstance(report.payload, dict) and report.payload.get("role") == "responder"
    sides = (report.aid_b, report.aid_a) if responds else (report.aid_a, report.aid_b)
    token = None if any(sides) else reported_token(report.payload, report.evidence)
    if token is None:
        return sides[0] or sides[1]
    return token.first(as_aid, SUBJECT if report.type in sessions.PROJECTION.types else ISSUER)


def _event(report: Report) -> NewEvent:
    return NewEvent(
        id=report.id,
        type=report.type,
        ts=report.ts,
        aid_a=report.aid_a,
        aid_b=report.aid_b,
        session_id=report.session_id,
        run_id=report.run_id,
        grants=report.grants,
        payload=json_numbers.encode(report.payload).decode(),
        source=report.source,
        reported_by=report.signer,
        proof=report.reporter.proof,
    )
