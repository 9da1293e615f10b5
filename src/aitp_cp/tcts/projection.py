"""From reports to changes of issued_tcts, delegations and the reported revocations (contract, section 9)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from aitp_cp.events.projection import Claim, Refusal
from aitp_cp.protocol.reports import Report
from aitp_cp.protocol.tokens import synthetic_delegation_jti
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp.protocol.verdicts import UNCHECKED, Kind, Verdict
from aitp_cp.tcts import claims
from aitp_cp.tcts.callers import Reported, State, by_key
from aitp_cp.tcts.claims import ISSUER, JTI, SUBJECT, Token, as_aid, as_numeric_date, as_object, bounded, counts
from aitp_cp.tcts.merging import differ, union
from aitp_cp.tcts.model import (
    DELEGATION,
    TCT,
    Changes,
    DelegationChange,
    Revocation,
    RevokedKind,
    TctChange,
    whole_second,
)
from aitp_cp_client.wire import moments

ISSUING = frozenset({"handshake.complete", "handshake.completed", "tct.issued", "tct.renewal.issued"})
REVOKING: dict[str, RevokedKind] = {"tct.revoked": "tct", "delegation.revoked": "delegation"}
DELEGATING = "delegation.issued"

UNVERIFIED = ("token", "unverified")

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
    """Return what `reports`, received at `now`, say; never raises."""
    return Changes(
        by_key((change.jti, _reported(report, change)) for report in reports for change in issued(report, now)),
        [_reported(report, change) for report in reports for change in delegated(report, now)],
        [revocation for report in reports for revocation in revoked(report, now)],
    )


def _reported(report: Report, change: C) -> Reported[C]:
    return Reported(report.caller, change, report.id)


def unproven(reports: Iterable[Report]) -> Iterator[Refusal]:
    """Yield the reports of which not every token is verified where only such tokens count."""
    for report in reports:
        must_verify = report.evidence.strict or (report.evidence.own and report.type in ISSUING)
        if must_verify and not all(token.is_verified for token in _tokens(report)):
            yield Refusal(report.id, *UNVERIFIED)


def _tokens(report: Report) -> list[Token]:
    if report.type in ISSUING:
        return list(claims.reported_tokens(report.payload, report.evidence))
    return [_delegation(report)] if report.type == DELEGATING else []


def issued(report: Report, now: datetime) -> Iterator[TctChange]:
    """Yield every token of the payload that counts and names its jti, issuer and subject."""
    if report.type not in ISSUING:
        return
    for token in claims.reported_tokens(report.payload, report.evidence):
        jti, issuer, subject = token.first(read_uuid, JTI), token.first(as_aid, ISSUER), token.first(as_aid, SUBJECT)
        if jti is None or issuer is None or subject is None or not counts(token, report.evidence):
            continue
        if report.evidence.own and not token.is_verified:
            continue
        yield TctChange(
            jti=jti,
            issuer=issuer,
            subject=subject,
            audience=token.first(as_aid, claims.AUDIENCE) or subject,
            grants=_grants(token),
            binding_cnf=_binding(token),
            issued_at=_past((token.issued_at(), report.ts), now),
            expires_at=token.expires_at(),
            session_id=report.session_id,
            verdict=token.verdict,
            mismatch=_differs(token, TCT_CLAIMS),
        )


def delegated(report: Report, now: datetime) -> Iterator[DelegationChange]:
    """Yield the delegation that the payload describes, when it counts and its parent and both sides are known."""
    if report.type != DELEGATING:
        return
    token = _delegation(report)
    jti, parent = _own_jti(token), _parent(token)
    delegator, delegatee = token.first(as_aid, DELEGATOR), token.first(as_aid, DELEGATEE)
    if jti is None or parent is None or delegator is None or delegatee is None or not counts(token, report.evidence):
        return
    yield DelegationChange(
        jti=jti,
        parents=frozenset({parent}),
        delegator=delegator,
        delegatee=delegatee,
        scope=_scope(token),
        issued_at=_past((token.issued_at(), report.ts), now),
        expires_at=token.expires_at(),
        verdict=token.verdict,
        mismatch=_differs(token, DELEGATION_CLAIMS),
        audience=token.first(as_aid, claims.AUDIENCE) if token.is_verified else None,
    )


def revoked(report: Report, now: datetime) -> Iterator[Revocation]:
    kind = REVOKING.get(report.type)
    if kind is None:
        return
    members = as_object(report.payload)
    named, token = (_unless_forged(source, members, report) for source in (members, _described(members)))
    jti = named.first(read_uuid, REVOKED_JTI) or token.first(read_uuid, REVOKED_JTI)
    if jti is None and kind == "delegation" and token.verdict is not Verdict.FORGED:
        jti = _own_jti(token)
    if jti is not None:
        dated = named.first(moments.read, REVOKED_AT) or token.first(moments.read, REVOKED_AT)
        revoked_at = _past((dated, report.ts), now)
        yield Revocation(jti, kind, revoked_at, report.caller, report.id, report.signer)


def claims_of(report: Report, now: datetime) -> Iterator[Claim]:
    """Yield the tokens and delegations that a report would change, but for what it revokes."""
    for token in issued(report, now):
        parties = frozenset((token.issuer, token.subject))
        yield Claim((TCT, token.jti), parties, proven=token.verdict is Verdict.VERIFIED)
    for delegation in delegated(report, now):
        proven = delegation.verdict is Verdict.VERIFIED
        yield Claim((DELEGATION, delegation.jti), frozenset(delegation.sides), proven)


def _past(times: Iterable[datetime | None], now: datetime) -> datetime:
    """The first time that is not ahead of the receipt: what was issued or revoked was so before it was reported."""
    return next((time for time in times if time is not None and time <= now + CLOCK_AHEAD), now)


def _described(members: Mapping[str, Any]) -> Any:
    """Return what `tct` or `delegation` holds, else the payload itself."""
    return next((members[name] for name in ("tct", "delegation") if members.get(name) is not None), members)


def _delegation(report: Report) -> Token:
    """Return the described token, with the payload's members around it."""
    members = as_object(report.payload)
    source = _described(members)
    return Token(source, members, report.evidence.of(claims.text_of(source), Kind.DELEGATION))


def _unless_forged(source: Any, members: Mapping[str, Any], report: Report) -> Token:
    """Return a token whose revocation is reported: any text may name it that is not forged."""
    checked = report.evidence.of(claims.text_of(source), Kind.TCT)
    return Token(source, members, checked if checked.verdict is Verdict.FORGED else UNCHECKED)


def _own_jti(token: Token) -> UUID | None:
    """Tokens of a single hop carry no jti: theirs is made from their text."""
    own = token.first(read_uuid, OWN_JTI)
    if own is None and token.text is not None:
        return synthetic_delegation_jti(token.text)
    return own


def _parent(token: Token) -> UUID | None:
    """Named outright, or the last hop of the chain, or the token behind the grant voucher."""
    hop = _last_hop(token)
    named = token.first(read_uuid, PARENT) or hop.first(read_uuid, JTI)
    return named or token.first(_vouched, ("voucher",)) or _own_jti(hop)


def _last_hop(token: Token) -> Token:
    chain = next((value for value in token.values(("chain",)) if isinstance(value, list) and value), [None])
    return Token(chain[-1])


def _vouched(voucher: object) -> UUID | None:
    return Token(voucher).first(read_uuid, PARENT)


def _binding(token: Token) -> str | None:
    return token.first(_thumbprint, ("cnf", "binding"))


def _thumbprint(value: Any) -> str | None:
    """Return the text in `cnf`, `cnf.jkt`, `binding.cnf` or `binding.cnf.jkt`."""
    for _ in range(3):
        if not isinstance(value, dict):
            return bounded(value, MAX_CNF)
        value = value.get("jkt", value.get("cnf"))
    return None


def _scope(token: Token) -> list[str]:
    return union(token.strings(("scope",)) or token.strings(("grants",)))


def _grants(token: Token) -> list[str]:
    return union(token.strings(("grants",)))


def _expiry(token: Token) -> datetime | None:
    return whole_second(token.expires_at())


# What a report may say beside a verified token, and not otherwise than the token.
TCT_CLAIMS: tuple[Callable[[Token], Any], ...] = (
    lambda token: token.first(read_uuid, JTI),
    lambda token: token.first(as_aid, ISSUER),
    lambda token: token.first(as_aid, SUBJECT),
    lambda token: token.first(as_aid, claims.AUDIENCE),
    lambda token: token.first(as_numeric_date, ("iat",)),
    _grants,
    _binding,
    _expiry,
)
DELEGATION_CLAIMS: tuple[Callable[[Token], Any], ...] = (
    _own_jti,
    _parent,
    lambda token: token.first(as_aid, DELEGATOR),
    lambda token: token.first(as_aid, DELEGATEE),
    _scope,
    _expiry,
)


def _differs(token: Token, parts: Iterable[Callable[[Token], Any]]) -> bool:
    """Return whether the claims beside a verified token differ from those that are signed."""
    if not token.is_verified:
        return False
    beside = token.beside()
    return any(differ(read(beside), read(token)) for read in parts)
