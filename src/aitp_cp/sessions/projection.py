"""From reports to changes of handshake_sessions (contract, section 9)."""

from collections.abc import Iterable, Mapping
from typing import Any

from aitp_cp.protocol import json_numbers
from aitp_cp.protocol.reports import Report
from aitp_cp.sessions.model import SessionChange, Status
from aitp_cp.tcts.callers import Reported, by_key
from aitp_cp.tcts.claims import ISSUER, SUBJECT, as_aid, as_object, as_strings, bounded, reported_token, reported_tokens
from aitp_cp.tcts.merging import union

STATUS_OF = {
    "handshake.started": Status.STARTED,
    "handshake.complete": Status.COMPLETE,
    "handshake.completed": Status.COMPLETE,
    "handshake.failed": Status.FAILED,
}

MAX_BOUNDARY = 32


def changes_from(reports: Iterable[Report]) -> dict[str, list[Reported[SessionChange]]]:
    """Return what `reports` say of each session, in key order; never raises."""
    return by_key(
        (change.session_id, Reported(report.caller, change, report.id))
        for report in reports
        if (change := reported(report)) is not None
    )


def reported(report: Report) -> SessionChange | None:
    """None unless the report is about a handshake and names its session."""
    status = STATUS_OF.get(report.type)
    if status is None or report.session_id is None:
        return None
    payload = as_object(report.payload)
    aid_a, aid_b = _sides(report, payload)
    grants = union(as_strings(payload.get("grants")) if report.grants is None else report.grants)
    return SessionChange(
        session_id=report.session_id,
        status=status,
        aid_a=aid_a,
        aid_b=aid_b,
        grants=grants,
        run_id=report.run_id,
        boundary=bounded(payload.get("boundary"), MAX_BOUNDARY),
        error=_error(payload.get("error")) if status is Status.FAILED else None,
        started_at=report.ts if status is Status.STARTED else None,
        completed_at=report.ts if status is Status.COMPLETE else None,
        claimed=not set(grants) <= _signed_grants(report, frozenset((aid_a, aid_b))),
    )


def _signed_grants(report: Report, sides: frozenset[str | None]) -> set[str]:
    """Return what the verified tokens of the report grant that one of these sides issued to the other."""
    return {
        grant
        for token in reported_tokens(report.payload, report.evidence)
        if token.is_verified and {token.first(as_aid, ISSUER), token.first(as_aid, SUBJECT)} == sides
        for grant in token.strings(("grants",))
    }


def _sides(report: Report, payload: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Initiator and responder: as the event names them, else from the token that the reporting side holds.

    An agent that names nobody stands as `aid_a`, and which side it is on its token tells better.
    """
    token = None if report.aid_a and report.aid_b else reported_token(payload, report.evidence)
    if token is None:
        return report.aid_a, report.aid_b
    aid_a = None if report.names_nobody else report.aid_a
    holder, issuer = token.first(as_aid, SUBJECT), token.first(as_aid, ISSUER)
    sides = (issuer, holder) if payload.get("role") == "responder" else (holder, issuer)
    if (aid_a and aid_a == sides[1]) or (report.aid_b and report.aid_b == sides[0]):
        sides = sides[::-1]
    return aid_a or sides[0], report.aid_b or sides[1]


def _error(value: object) -> str | None:
    """Return the text of an error, or the message of an error object, or whatever it is as JSON."""
    if isinstance(value, dict):
        value = value.get("message") or value
    if value is None or isinstance(value, str):
        return value or None
    return json_numbers.encode(value).decode()
