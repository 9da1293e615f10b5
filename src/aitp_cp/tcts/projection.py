"""From reports to changes of issued_tcts, delegations and the reported revocations (contract, section 9)."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from aitp_cp.protocol.reports import Report
from aitp_cp.protocol.tokens import synthetic_delegation_jti
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp.tcts import claims
from aitp_cp.tcts.callers import Reported, State, by_key
from aitp_cp.tcts.claims import ISSUER, JTI, SUBJECT, Token, as_aid, as_object, bounded
from aitp_cp.tcts.merging import union
from aitp_cp.tcts.model import Changes, DelegationChange, Revocation, RevokedKind, TctChange
from aitp_cp_client.wire import moments

ISSUING = frozenset({"handshake.complete", "handshake.completed", "tct.issued", "tct.renewal.issued"})
REVOKING: dict[str, RevokedKind] = {"tct.revoked": "tct", "delegation.revoked": "delegation"}
DELEGATING = "delegation.issued"

MAX_CNF = 128

# A reporter's clock may be ahead by this much.
CLOCK_AHEAD = timedelta(minutes=5)

C = TypeVar("C", bound=State)

OWN_JTI = ("jti", "child_jti", "childJti")
PARENT = ("parent_jti", "parentJti", "src_jti", "srcJti")
DELEGATOR = ("delegator_aid", "delegatorAid", "delegator", *ISSUER)
DELEGATEE = ("delegatee_aid", "delegateeAid", "delegatee", *SUBJECT)
REVOKED_JTI = (*OWN_JTI, "tct_jti", "tctJti", "delegation_jti", "delegationJti")
REVOKED_AT = ("revoked_at", "revokedAt")


def changes_from(reports: Sequence[Report], now: datetime) -> Changes:
    """What `reports`, received at `now`, say; never raises."""
    return Changes(
        by_key((change.jti, _reported(report, change)) for report in reports for change in issued(report, now)),
        [_reported(report, change) for report in reports for change in delegated(report, now)],
        [revocation for report in reports for revocation in revoked(report, now)],
    )


def _reported(report: Report, change: C) -> Reported[C]:
    return Reported(report.caller, change, report.id)


def issued(report: Report, now: datetime) -> Iterator[TctChange]:
    """Every token of the payload that names its jti, issuer and subject."""
    if report.type not in ISSUING:
        return
    for token in claims.reported_tokens(report.payload):
        jti, issuer, subject = token.first(read_uuid, JTI), token.first(as_aid, ISSUER), token.first(as_aid, SUBJECT)
        if jti is None or issuer is None or subject is None:
            continue
        yield TctChange(
            jti=jti,
            issuer=issuer,
            subject=subject,
            audience=token.first(as_aid, claims.AUDIENCE) or subject,
            grants=union(token.strings(("grants",))),
            binding_cnf=_binding(token),
            issued_at=_past((token.issued_at(), report.ts), now),
            expires_at=token.expires_at(),
            session_id=report.session_id,
        )


def delegated(report: Report, now: datetime) -> Iterator[DelegationChange]:
    """The delegation that the payload describes, when its parent and both sides are known."""
    if report.type != DELEGATING:
        return
    token = _delegation(report.payload)
    jti, parent = _own_jti(token), _parent(token)
    delegator, delegatee = token.first(as_aid, DELEGATOR), token.first(as_aid, DELEGATEE)
    if jti is None or parent is None or delegator is None or delegatee is None:
        return
    yield DelegationChange(
        jti=jti,
        parents=frozenset({parent}),
        delegator=delegator,
        delegatee=delegatee,
        scope=union(token.strings(("scope",)) or token.strings(("grants",))),
        issued_at=_past((token.issued_at(), report.ts), now),
        expires_at=token.expires_at(),
    )


def revoked(report: Report, now: datetime) -> Iterator[Revocation]:
    kind = REVOKING.get(report.type)
    if kind is None:
        return
    payload = as_object(report.payload)
    named = Token(payload)
    token = _delegation(payload)
    jti = named.first(read_uuid, REVOKED_JTI) or token.first(read_uuid, REVOKED_JTI)
    if jti is None and kind == "delegation":
        jti = _own_jti(token)
    if jti is not None:
        dated = named.first(moments.read, REVOKED_AT) or token.first(moments.read, REVOKED_AT)
        yield Revocation(jti, kind, _past((dated, report.ts), now), report.caller)


def _past(times: Iterable[datetime | None], now: datetime) -> datetime:
    """The first time that is not ahead of the receipt: what was issued or revoked was so before it was reported."""
    return next((time for time in times if time is not None and time <= now + CLOCK_AHEAD), now)


def _delegation(payload: object) -> Token:
    """The token of `tct`, else `delegation`, else the payload itself, with the payload's members around it."""
    members = as_object(payload)
    given = next((members[name] for name in ("tct", "delegation") if members.get(name) is not None), members)
    return Token(given, members)


def _own_jti(token: Token) -> UUID | None:
    """Tokens of a single hop carry no jti: theirs is made from their text."""
    own = token.first(read_uuid, OWN_JTI)
    if own is None and token.text is not None:
        return synthetic_delegation_jti(token.text)
    return own


def _parent(token: Token) -> UUID | None:
    """Named outright, or the last hop of the chain, or the token behind the grant voucher."""
    hop = _last_hop(token)
    return token.first(read_uuid, PARENT) or hop.first(read_uuid, JTI) or _vouched(token) or _own_jti(hop)


def _last_hop(token: Token) -> Token:
    chain = next((value for value in token.values(("chain",)) if isinstance(value, list) and value), [None])
    return Token(chain[-1])


def _vouched(token: Token) -> UUID | None:
    vouchers = (Token(voucher) for voucher in token.values(("voucher",)))
    return next((jti for voucher in vouchers if (jti := voucher.first(read_uuid, PARENT)) is not None), None)


def _binding(token: Token) -> str | None:
    for value in token.values(("cnf", "binding")):
        found = _thumbprint(value)
        if found is not None:
            return found
    return None


def _thumbprint(value: Any) -> str | None:
    """The text in `cnf`, `cnf.jkt`, `binding.cnf` or `binding.cnf.jkt`."""
    for _ in range(3):
        if not isinstance(value, dict):
            return bounded(value, MAX_CNF)
        value = value.get("jkt", value.get("cnf"))
    return None
