"""`token.forged`: what the log says of a token with a wrong signature, once for each token (contract, section 19)."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from aitp_cp.events.model import NewEvent
from aitp_cp.protocol.reports import Report, event_id
from aitp_cp.protocol.tokens import Redacted
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp.protocol.verdicts import Checked, Verdict
from aitp_cp.protocol.vocabulary import FORGED_TYPE, OWN_SOURCE
from aitp_cp_client.wire import aid as aids

# Alarms of one transaction, so that a flood of forgeries does not hold the log; a token beyond it has one when it comes
# again. Every one is counted.
MAX_ALARMS = 100


class Alarm(NamedTuple):
    """A forged token, and the first report that carries it."""

    report: Report
    token: Redacted
    checked: Checked


class ForgedPayload(msgspec.Struct, frozen=True, rename="camel"):
    """Parties and id as the token claims them, null for what is no AID or no id; never any other text of it."""

    sha256: str
    kind: str | None
    jti: UUID | None
    issuer: str | None
    subject: str | None
    reporter: str
    event_id: UUID


def alarms_of(reports: Iterable[Report]) -> dict[UUID, Alarm]:
    """Return the alarms that these reports raise, by the id of their event, which the token alone decides."""
    alarms: dict[UUID, Alarm] = {}
    for report in reports:
        for token in report.tokens:
            checked = report.evidence.checked.get(token.token)
            if checked is not None and checked.verdict is Verdict.FORGED and len(alarms) < MAX_ALARMS:
                id = event_id(OWN_SOURCE, FORGED_TYPE, token["sha256"].encode())
                alarms.setdefault(id, Alarm(report, token, checked))
    return alarms


def event_of(id: UUID, alarm: Alarm, now: datetime) -> NewEvent:
    claims, kind = alarm.checked.claims, alarm.checked.kind
    issuer, subject = aids.recognise(claims.get("iss")), aids.recognise(claims.get("sub"))
    payload = ForgedPayload(
        sha256=alarm.token["sha256"],
        kind=None if kind is None else kind.name.lower(),
        jti=read_uuid(claims.get("jti")),
        issuer=issuer,
        subject=subject,
        reporter=alarm.report.caller,
        event_id=alarm.report.id,
    )
    return NewEvent(
        id=id,
        type=FORGED_TYPE,
        ts=now,
        payload=msgspec.json.encode(payload).decode(),
        aid_a=issuer,
        aid_b=subject,
        session_id=alarm.report.session_id,
        run_id=alarm.report.run_id,
    )
