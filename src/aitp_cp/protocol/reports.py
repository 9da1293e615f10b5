"""Reported events, whatever their dialect, in one shape (contract, section 9, POST /api/events)."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from aitp_cp.errors import BodyInvalid, PayloadTooLarge
from aitp_cp.protocol import json_guard, json_numbers, json_salvage, tokens
from aitp_cp.protocol.vocabulary import OWN_SOURCE, UNKNOWN_TYPE, is_reserved
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire import moments

MAX_EVENTS = 500
MAX_PAYLOAD = 64 * 1024
MAX_PROBLEMS = 20
MAX_TYPE = MAX_SOURCE = 128
MAX_AID = 512
MAX_SESSION = MAX_RUN = 255
DEFAULT_SOURCE = "playground"
RESERVED = "reserved"  # consumers compare exactly, so other spellings of a reserved name are other names

_WHOLE = "event"
_MAX_FIELD_NAME = 128
_RANDOM_BITS = ~(0xF << 76 | 0x3 << 62)
_VERSION_8 = 0x8 << 76 | 0x2 << 62
_DECODER = msgspec.json.Decoder()
_SORTED = msgspec.json.Encoder(order="sorted")

Dice = Callable[[], UUID]


class Report(msgspec.Struct, frozen=True):
    """One reported event; `ts` is UTC with milliseconds, and is the time of receipt unless `usable_ts`.

    `index` is its place in the batch, `caller` the actor that reported it, as the audit log shows actors. `payload`
    holds a `tokens.Redacted` for each raw token: projections read it with `tokens.text_of`, and encoding shows the
    digest alone.
    """

    id: UUID
    index: int
    caller: str
    type: str
    ts: datetime
    aid_a: str | None
    aid_b: str | None
    session_id: str | None
    run_id: str | None
    grants: list[str] | None
    payload: Any
    source: str
    usable_ts: bool


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


class _Receipt(NamedTuple):
    """What holds for each item of a batch."""

    caller: str
    now: datetime
    random_uuid: Dice
    redact: bool


class _Item(NamedTuple):
    """One item: with numbers as they were written, and with their values, if the whole batch could be read at once."""

    written: Any
    values: Any = None


class _Refused(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


def normalise(body: bytes, caller: str, now: datetime, random_uuid: Dice, *, redact: bool = True) -> Batch:
    """Read a batch; `caller` is the fingerprint that scopes event ids (see `event_id`), free of NUL.

    With `redact`, raw tokens are taken out of each item before anything but its id is made of it.

    Raises `BodyInvalid` when the body is neither an array nor `{"events": [...]}`, and `PayloadTooLarge` for more
    than 500 events or a payload over 64 KiB. Any other defect drops only its own item.
    """
    items = _items(body)
    if len(items) > MAX_EVENTS:
        raise PayloadTooLarge(f"a batch holds at most {MAX_EVENTS} events")
    receipt = _Receipt(caller, now, random_uuid, redact and tokens.may_hold_token(body))
    reports: list[Report] = []
    refusals: list[Problem] = []
    for index, item in enumerate(items):
        try:
            reports.append(_report(index, item, receipt))
        except _Refused as refused:
            refusals.append(Problem(index, refused.field, refused.reason))
    return Batch(reports, refusals[:MAX_PROBLEMS], len(refusals))


def event_id(caller: str, kind: str, text: bytes) -> UUID:
    """A UUIDv8 (RFC 9562): the first 16 bytes of SHA-256 over `caller` NUL `kind` NUL `text`, version and variant set.

    `kind` is `id` when `text` is the client's own id, and `event` when it is the raw event as compact JSON: members
    sorted by code point, the last of equal names, numbers as they were written.
    """
    digest = hashlib.sha256(b"\0".join((caller.encode(), kind.encode(), text))).digest()
    return UUID(int=int.from_bytes(digest[:16], "big") & _RANDOM_BITS | _VERSION_8)


def _items(body: bytes) -> list[_Item]:
    try:
        written = _events(json_numbers.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _salvaged(body)
    try:
        return list(map(_Item, written, _events(_DECODER.decode(body))))
    except msgspec.DecodeError:  # a number is beyond the range of a double
        return [_Item(item) for item in written]


def _events(document: Any) -> list[Any]:
    events = document.get("events") if isinstance(document, dict) else document
    if not isinstance(events, list):
        raise BodyInvalid('expected an array of events or {"events": [...]}')
    return events


def _salvaged(body: bytes) -> list[_Item]:
    """Return the items of a document that msgspec refuses; refusals stand for those that nest too deeply."""
    try:
        items = _events(json_salvage.decode(body))
    except ValueError as refused:
        raise BodyInvalid("the body is not JSON") from refused
    too_deep = _Refused(_WHOLE, json_guard.TOO_DEEP)
    return [_Item(too_deep if json_guard.fault_in(item) == json_guard.TOO_DEEP else item) for item in items]


def _report(index: int, found: _Item, receipt: _Receipt) -> Report:
    written = found.written
    if isinstance(written, _Refused):
        raise written
    if not isinstance(written, dict):
        raise _Refused(_WHOLE, "is not an object")
    text = _checked(written)
    _check_payload_size(written, text)
    item: dict[str, Any] = json_numbers.values(text) if found.values is None else found.values
    if receipt.redact:
        item = tokens.redact(item)
    payload = item.get("payload")
    reported_ts = moments.read(item.get("ts"))
    return Report(
        id=_id(written, text, receipt.caller) or receipt.random_uuid(),
        index=index,
        caller=receipt.caller,
        type=_type(item),
        ts=reported_ts or receipt.now,
        aid_a=_aid(item, "aid_a", "aidA", "initiator"),
        aid_b=_aid(item, "aid_b", "aidB", "target"),
        session_id=_session(item),
        run_id=_run(item),
        grants=_grants(item.get("grants")),
        payload=item if payload is None else payload,
        source=_source(item),
        usable_ts=reported_ts is not None,
    )


def _checked(written: dict[str, Any]) -> bytes:
    """The item's sorted JSON with numbers as they were written, once it is known to be storable."""
    try:
        text = _SORTED.encode(written)
    except (UnicodeEncodeError, RecursionError) as unfit:
        raise _locate(written) from unfit
    if not json_guard.looks_clean(text) and json_guard.fault_in(written) is not None:
        raise _locate(written)
    return text


def _locate(item: dict[str, Any]) -> _Refused:
    for name, member in item.items():
        if (found := json_guard.fault_in(name)) is not None:
            return _Refused(_WHOLE, f"has a member name that {found}")
        if (found := json_guard.fault_in(member, json_guard.MAX_DEPTH - 1)) is not None:
            return _Refused(tokens.redact_text(name)[:_MAX_FIELD_NAME], found)
    return _Refused(_WHOLE, json_guard.TOO_DEEP)


def _check_payload_size(written: dict[str, Any], text: bytes) -> None:
    if len(text) <= MAX_PAYLOAD:  # the payload is a part of the item, so most items need no second look
        return
    payload = written.get("payload")
    if payload is None or len(_SORTED.encode(payload)) > MAX_PAYLOAD:
        kind = tokens.redact_text(_text(written.get("type")) or UNKNOWN_TYPE)
        raise PayloadTooLarge(
            f"an event's payload is larger than {MAX_PAYLOAD} bytes", extra={"eventType": kind[:MAX_TYPE]}
        )


def _id(written: dict[str, Any], text: bytes, caller: str) -> UUID | None:
    """An item with a time is the same event when it comes again, even if nobody can read the time."""
    own = _text(written.get("id"))
    if own is not None:
        return event_id(caller, "id", own.encode())
    return event_id(caller, "event", text) if written.get("ts") not in (None, "") else None


def _type(item: dict[str, Any]) -> str:
    kind = _bounded(_text(item.get("type")) or UNKNOWN_TYPE, "type", MAX_TYPE)
    if is_reserved(kind):
        raise _Refused("type", RESERVED)
    return kind


def _source(item: dict[str, Any]) -> str:
    source = _bounded(_text(item.get("source")) or DEFAULT_SOURCE, "source", MAX_SOURCE)
    if source == OWN_SOURCE:
        raise _Refused("source", RESERVED)
    return source


def _aid(item: dict[str, Any], snake: str, camel: str, stand_in: str) -> str | None:
    given = _text(item.get(snake)) or _text(item.get(camel))
    if given is None:
        return aids.recognise(item.get(stand_in))
    return aids.recognise(given) or _bounded(given, snake, MAX_AID)


def _session(item: dict[str, Any]) -> str | None:
    given = _text(item.get("session_id")) or _text(item.get("sessionId"))
    return None if given is None else _bounded(given, "session_id", MAX_SESSION)


def _run(item: dict[str, Any]) -> str | None:
    given = _text(item.get("run_id")) or _text(item.get("runId"))
    if given is None and isinstance(playground := item.get("playground"), dict):
        given = _text(playground.get("run_id")) or _text(playground.get("runId"))
    return None if given is None else _bounded(given, "run_id", MAX_RUN)


def _grants(given: object) -> list[str] | None:
    if not isinstance(given, list):
        return None
    texts = (grant.text if isinstance(grant, tokens.Redacted) else grant for grant in given)
    return [grant for grant in texts if isinstance(grant, str)]


def _text(given: object) -> str | None:
    """A name or id; integers are accepted as text, and an empty or otherwise odd one counts as not given."""
    if isinstance(given, str):
        return given or None
    if isinstance(given, tokens.Redacted):
        return given.text
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given) if abs(given) < 10**MAX_AID else None
    return None


def _bounded(text: str, field: str, limit: int) -> str:
    if len(text) > limit:
        raise _Refused(field, f"is longer than {limit} characters")
    return text
