"""Reported events, whatever their dialect, in one shape (contract, section 9, POST /api/events)."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from aitp_cp.errors import BodyInvalid, PayloadTooLarge
from aitp_cp.protocol import json_guard, json_numbers, json_salvage, tokens
from aitp_cp.protocol.tokens import Redacted
from aitp_cp.protocol.verdicts import Evidence
from aitp_cp.protocol.vocabulary import OWN_SOURCE, UNKNOWN_TYPE, is_reserved
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire import moments
from aitp_cp_client.wire.aid import Aid

MAX_EVENTS = 500
MAX_PAYLOAD = 64 * 1024
MAX_PROBLEMS = 20
MAX_TYPE = MAX_SOURCE = 128
MAX_AID = 512
MAX_SESSION = MAX_RUN = 255
DEFAULT_SOURCE = "playground"
RESERVED = "reserved"  # names are compared exactly, as consumers do: another spelling is another name

_WHOLE = "event"
_MAX_FIELD_NAME = 128
_RANDOM_BITS = ~(0xF << 76 | 0x3 << 62)
_VERSION_8 = 0x8 << 76 | 0x2 << 62


class Proof(StrEnum):
    """How the reporter of an event is known: by a key that others hold as well, or as an agent."""

    SHARED_KEY = "shared-key"
    AGENT_TOKEN = "agent-token"  # noqa: S105 - the name of a proof
    SIGNATURE = "signature"


class Reporter(msgspec.Struct, frozen=True):
    """Who sends a batch: the actor, and the agent that proved to be one.

    With `should_sign` reports are counted for the agents that they speak for (`TELEMETRY=warn`).
    """

    actor: str
    proof: Proof = Proof.SHARED_KEY
    aid: Aid | None = None
    should_sign: bool = False


class Report(msgspec.Struct, frozen=True):
    """One reported event; `ts` is UTC with milliseconds, the time of receipt when the reported one cannot be read.

    `index` is its place in the batch. `payload` holds a `tokens.Redacted` for each raw token: projections read it with
    `tokens.text_of`, and encoding shows the digest alone. `tokens` are those of its item, and `evidence` what is known
    of them.
    """

    id: UUID
    index: int
    reporter: Reporter
    type: str
    ts: datetime
    aid_a: str | None
    aid_b: str | None
    session_id: str | None
    run_id: str | None
    grants: list[str] | None
    payload: Any
    source: str
    names_nobody: bool = False  # then `aid_a` is the agent that reported it
    tokens: tuple[Redacted, ...] = ()
    evidence: Evidence = Evidence()

    @property
    def caller(self) -> str:
        return self.reporter.actor

    @property
    def signer(self) -> Aid | None:
        return self.reporter.aid


class Problem(msgspec.Struct, frozen=True):
    """Why the item at `index` was dropped; `field` is `event` when it is about the item as a whole."""

    index: int
    field: str
    reason: str


class Batch(msgspec.Struct, frozen=True):
    """What is left of a reported batch; `problems` ends at 20, `dropped` counts every refused item."""

    reports: list[Report]
    problems: list[Problem]
    dropped: int


class _Refused(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


def normalise(
    body: bytes, reporter: Reporter, now: datetime, random_uuid: Callable[[], UUID], *, redact: bool = True
) -> Batch:
    """Read a batch; the reporter's actor scopes event ids (see `event_id`) and is free of NUL.

    With `redact`, raw tokens are taken out of each item before anything but its id is made of it.

    Raises `BodyInvalid` when the body is neither an array nor `{"events": [...]}`, and `PayloadTooLarge` for more
    than 500 events or a payload over 64 KiB. Any other defect drops only its own item.
    """
    items = _items(body)
    if len(items) > MAX_EVENTS:
        raise PayloadTooLarge(f"a batch holds at most {MAX_EVENTS} events")
    may_hold_token = tokens.may_hold_token(body)
    reports: list[Report] = []
    problems: list[Problem] = []
    for index, item in enumerate(items):
        try:
            text = _checked(item)
            id = _id(item, text, reporter) or random_uuid()
            taken: list[Redacted] = []
            redacted = tokens.redact(item, taken) if may_hold_token else item
            report = _report(index, id, redacted if redact else item, reporter, now)
            reports.append(msgspec.structs.replace(report, tokens=tuple(taken)) if taken else report)
        except _Refused as refused:
            problems.append(Problem(index, refused.field, refused.reason))
    return Batch(reports, problems[:MAX_PROBLEMS], len(problems))


def event_id(caller: str, kind: str, text: bytes) -> UUID:
    """A UUIDv8 (RFC 9562): the first 16 bytes of SHA-256 over `caller` NUL `kind` NUL `text`, version and variant set.

    `kind` is `id` when `text` is the client's own id, and `event` when it is the raw event as compact JSON: members
    sorted by code point, the last of equal names, numbers as they were written.
    """
    digest = hashlib.sha256(b"\0".join((caller.encode(), kind.encode(), text))).digest()
    return UUID(int=int.from_bytes(digest[:16], "big") & _RANDOM_BITS | _VERSION_8)


def _items(body: bytes) -> list[Any]:
    try:
        return _events(json_numbers.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _salvaged(body)


def _events(document: Any) -> list[Any]:
    events = document.get("events") if isinstance(document, dict) else document
    if not isinstance(events, list):
        raise BodyInvalid('expected an array of events or {"events": [...]}')
    return events


def _salvaged(body: bytes) -> list[Any]:
    """Return the items of a document that msgspec refuses; a `_Refused` stands for one that nests too deeply."""
    try:
        items = _events(json_salvage.decode(body))
    except ValueError as refused:
        raise BodyInvalid("the body is not JSON") from refused
    too_deep = _Refused(_WHOLE, json_guard.TOO_DEEP)
    return [too_deep if json_guard.fault_in(item) == json_guard.TOO_DEEP else item for item in items]


def _checked(item: Any) -> bytes:
    """Return the item's sorted JSON with numbers as they were written, once it is known to be storable."""
    if isinstance(item, _Refused):
        raise item
    if not isinstance(item, dict):
        raise _Refused(_WHOLE, "is not an object")
    try:
        text = json_numbers.encode_written(item)
    except (UnicodeEncodeError, RecursionError) as unfit:
        raise _locate(item) from unfit
    if not json_guard.looks_clean(text) and json_guard.fault_in(item) is not None:
        raise _locate(item)
    if len(text) > MAX_PAYLOAD:  # the payload is a part of the item, so most items need no second look
        _check_payload_size(item)
    return text


def _locate(item: dict[str, Any]) -> _Refused:
    for name, member in item.items():
        if (fault := json_guard.fault_in(name)) is not None:
            return _Refused(_WHOLE, f"has a member name that {fault}")
        if (fault := json_guard.fault_in(member, json_guard.MAX_DEPTH - 1)) is not None:
            return _Refused(tokens.redact_text(name)[:_MAX_FIELD_NAME], fault)
    return _Refused(_WHOLE, json_guard.TOO_DEEP)


def _check_payload_size(item: dict[str, Any]) -> None:
    payload = item.get("payload")
    if payload is None or len(json_numbers.encode_written(payload)) > MAX_PAYLOAD:
        event_type = tokens.redact_text(_text(item.get("type")) or UNKNOWN_TYPE)[:MAX_TYPE]
        message = f"an event's payload is larger than {MAX_PAYLOAD} bytes"
        raise PayloadTooLarge(message, extra={"eventType": event_type})


def _id(item: dict[str, Any], text: bytes, reporter: Reporter) -> UUID | None:
    """Return the id; an item with a time is the same event when it comes again, even if the time is unreadable.

    A signed request can be sent again by whoever has seen it, so there an item must be the same event for certain.
    """
    own = _text(item.get("id"))
    if own is not None:
        return event_id(reporter.actor, "id", own.encode())
    if reporter.proof is Proof.SIGNATURE and moments.read(item.get("ts")) is None:
        raise _Refused("ts", "must be a time that can be read, unless the item has an id")
    return event_id(reporter.actor, "event", text) if item.get("ts") not in (None, "") else None


def _report(index: int, id: UUID, item: dict[str, Any], reporter: Reporter, now: datetime) -> Report:
    get = item.get
    payload, playground = get("payload"), get("playground")
    run = _text(get("run_id")) or _text(get("runId"))
    if run is None and isinstance(playground, dict):
        run = _text(playground.get("run_id")) or _text(playground.get("runId"))
    aid_a = _aid(_text(get("aid_a")) or _text(get("aidA")), get("initiator"), "aid_a")
    aid_b = _aid(_text(get("aid_b")) or _text(get("aidB")), get("target"), "aid_b")
    names_nobody = reporter.aid is not None and aid_a is None and aid_b is None
    return Report(
        id=id,
        index=index,
        reporter=reporter,
        type=_type(get("type")),
        ts=moments.read(get("ts")) or now,
        aid_a=reporter.aid if names_nobody else aid_a,
        aid_b=aid_b,
        session_id=_bounded(_text(get("session_id")) or _text(get("sessionId")), "session_id", MAX_SESSION),
        run_id=_bounded(run, "run_id", MAX_RUN),
        grants=_grants(get("grants")),
        payload=item if payload is None else payload,
        source=_source(get("source")),
        names_nobody=names_nobody,
    )


def _type(value: object) -> str:
    event_type = _bounded(_text(value), "type", MAX_TYPE) or UNKNOWN_TYPE
    if is_reserved(event_type):
        raise _Refused("type", RESERVED)
    return event_type


def _source(value: object) -> str:
    source = _bounded(_text(value), "source", MAX_SOURCE) or DEFAULT_SOURCE
    if source == OWN_SOURCE:
        raise _Refused("source", RESERVED)
    return source


def _aid(text: str | None, stand_in: object, field: str) -> str | None:
    """One side of the event; `stand_in` counts only when it is an AID."""
    if text is None:
        return aids.recognise(stand_in)
    return aids.recognise(text) or _bounded(text, field, MAX_AID)


def _grants(value: object) -> list[str] | None:
    if not isinstance(value, list):
        return None
    texts = (grant.text if isinstance(grant, tokens.Redacted) else grant for grant in value)
    return [grant for grant in texts if isinstance(grant, str)]


def _text(value: object) -> str | None:
    """Return a name or id; integers are accepted as text, and an empty or otherwise odd one counts as not given."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, tokens.Redacted):
        return value.text
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**MAX_AID else None
    return None


def _bounded(text: str | None, field: str, limit: int) -> str | None:
    if text is not None and len(text) > limit:
        raise _Refused(field, f"is longer than {limit} characters")
    return text
