"""What a token in a report is worth (contract, section 19).

    text ── no JWS ──> none        issuer without a key ──> unverifiable        wrong signature ──> forged
         └─ signed by the key in `iss` ── not a valid aitp/0.3 token ──> invalid, else ──> verified

Expiry does not matter: reports come late. A delegation also stands on its voucher and the hops in its chain: the worst
of their verdicts is its own (forged, then unverifiable, then invalid). They are judged once the token itself has its
form, and each must lead on from the one before.
"""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

import aitp
import msgspec
from msgspec import UNSET, Meta, UnsetType

from aitp_cp.protocol import jws as compact
from aitp_cp.protocol.jws import Jws
from aitp_cp.protocol.uuids import VERSION_4
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire import base64url

# Hops before the last one. A verifier's own limit is three hops by default; this one bounds the work, about 1 ms.
MAX_CHAIN = 8
ATTESTATION = "aitp.attestation"

_KNOWN_THUMBPRINTS = 4096

Jti = Annotated[str, Meta(pattern=rf"^{VERSION_4}\Z")]
Seconds = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Names = Annotated[list[str], Meta(min_length=1)]
Version = Literal["aitp/0.3"]
Extensions = dict[str, Any] | None


class Verdict(StrEnum):
    NONE = "none"
    UNVERIFIABLE = "unverifiable"
    INVALID = "invalid"
    VERIFIED = "verified"
    FORGED = "forged"


class Kind(StrEnum):
    TCT = "aitp-tct+jwt"
    VOUCHER = "aitp-grant+jwt"
    DELEGATION = "aitp-delegation+jwt"


class Checked(msgspec.Struct, frozen=True):
    """A verdict and the claims it is about, which the issuer signed unless it is `forged` or `unverifiable`.

    `kind` is None where the header names no kind of token.
    """

    verdict: Verdict
    kind: Kind | None = None
    claims: Mapping[str, Any] = {}


UNCHECKED = Checked(Verdict.NONE)


class Evidence(msgspec.Struct, frozen=True):
    """What is known of the tokens in a report, by their text.

    With `strict` only what is verified counts. With `own` an agent reports for itself: of tokens, only verified ones.
    """

    checked: Mapping[str, Checked] = {}
    strict: bool = False
    own: bool = False

    def of(self, token: str | None, kind: Kind) -> Checked:
        """Return the verdict on a token where one of this kind belongs."""
        checked = self.checked.get(token or "", UNCHECKED)
        if checked.verdict is Verdict.VERIFIED and checked.kind is not kind:
            return msgspec.structs.replace(checked, verdict=Verdict.INVALID)
        return checked


class _Binding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    jkt: str


class _Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every kind of token says."""

    ver: Version
    iss: str
    sub: str
    exp: Seconds
    ext: Extensions = None


class _Tct(_Claims, frozen=True, forbid_unknown_fields=True):
    jti: Jti
    aud: str
    iat: Seconds
    grants: Names
    cnf: _Binding


class _Voucher(_Claims, frozen=True, forbid_unknown_fields=True):
    grants: Names
    iat: Seconds
    src_jti: Jti


class _Delegation(_Claims, frozen=True, forbid_unknown_fields=True):
    aud: str
    scope: Names
    cnf: _Binding
    voucher: str | UnsetType | None = UNSET
    jti: Jti | UnsetType | None = UNSET
    chain: list[str] | UnsetType | None = UNSET
    chain_hash: str | UnsetType | None = UNSET


_TCT = msgspec.json.Decoder(_Tct)
_VOUCHER = msgspec.json.Decoder(_Voucher)
_DELEGATION = msgspec.json.Decoder(_Delegation)

S = TypeVar("S", _Tct, _Voucher, _Delegation)


class _Bad(Exception):
    """Why a token is not verified."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


# The worst first. A token that no key was found for may still be good; one that is signed and wrong may not.
_WORST = (Verdict.FORGED, Verdict.UNVERIFIABLE, Verdict.INVALID)


def check(token: str) -> Checked:
    """Judge a token by the kind that its header names. Never raises; takes about 0.1 ms for each signature."""
    jws = compact.parse(token)
    if jws is None:
        return UNCHECKED
    kind = _kind(jws)
    try:
        _check_signature(jws)
        if kind is None:
            raise _Bad(Verdict.INVALID)
        _check_form(jws, kind)
    except _Bad as bad:
        return Checked(bad.verdict, kind, jws.claims)
    return Checked(Verdict.VERIFIED, kind, jws.claims)


def _kind(jws: Jws) -> Kind | None:
    typ = None if jws.header is None else jws.header.get("typ")
    return next((kind for kind in Kind if kind == typ), None)


def _check_signature(jws: Jws) -> None:
    key = compact.key_of(jws.issuer)
    if key is None:
        raise _Bad(Verdict.UNVERIFIABLE)
    if not compact.is_signed(jws, key):
        raise _Bad(Verdict.FORGED)


def _check_form(jws: Jws, kind: Kind) -> None:
    if kind is Kind.TCT:
        _check_tct(jws)
    elif kind is Kind.VOUCHER:
        _structure(jws, Kind.VOUCHER, _VOUCHER)
    else:
        _check_delegation(jws)


def _check_tct(jws: Jws) -> None:
    tct = _structure(jws, Kind.TCT, _TCT)
    _require(tct.aud == tct.sub, _is_bound(tct.cnf, tct.sub))
    # A self-issued token grants nothing: it can only be an attestation, which nothing else may be.
    _require((tct.iss == tct.sub) == (ATTESTATION in tct.grants), ATTESTATION not in tct.grants or len(tct.grants) == 1)


def _check_delegation(jws: Jws) -> None:
    last = _structure(jws, Kind.DELEGATION, _DELEGATION)
    chain = last.chain or []
    _require(len(chain) <= MAX_CHAIN)
    parsed = [compact.parse(hop) for hop in chain]
    root = _hop(parsed[0]) if chain else last
    voucher = compact.parse(root.voucher) if root is not None and root.voucher else None
    _check_signatures([*parsed, voucher])
    _require(root is not None, voucher is not None, all(hop is not None for hop in parsed))
    hops = [*(_structure(hop, Kind.DELEGATION, _DELEGATION) for hop in parsed if hop is not None), last]
    if voucher is not None:
        _check_root(hops[0], _structure(voucher, Kind.VOUCHER, _VOUCHER))
    for hop in hops:
        _require(hop.iss != hop.sub, hop.aud == hops[0].aud, _is_bound(hop.cnf, hop.sub))
    if chain:
        _check_chain(hops, chain)


def _check_signatures(parts: Sequence[Jws | None]) -> None:
    """Raise the worst verdict on these parts of a delegation."""
    reached: set[Verdict] = set()
    for part in parts:
        try:
            if part is not None:
                _check_signature(part)
        except _Bad as bad:
            reached.add(bad.verdict)
    for verdict in _WORST:
        if verdict in reached:
            raise _Bad(verdict)


def _check_root(root: _Delegation, voucher: _Voucher) -> None:
    """The audience of a delegation has issued the voucher that its first hop rests on."""
    _require(voucher.iss == root.aud, voucher.sub == root.iss, root.exp <= voucher.exp)
    _require(set(root.scope) <= set(voucher.grants))


def _check_chain(hops: Sequence[_Delegation], chain: Sequence[str]) -> None:
    for earlier, later in pairwise(hops):
        _require(later.iss == earlier.sub, later.exp <= earlier.exp, set(later.scope) <= set(earlier.scope))
        _require(not later.voucher)
    ids = {hop.jti for hop in hops if hop.jti}
    digests = [base64url.encode(hashlib.sha256(hop.encode()).digest()) for hop in chain]
    committed = base64url.encode(hashlib.sha256(msgspec.json.encode(digests)).digest())
    _require(len(ids) == len(hops), hops[-1].chain_hash == committed)


def _hop(jws: Jws | None) -> _Delegation | None:
    """Return what a hop says before anybody has checked it, None where it has not the form of one."""
    try:
        return None if jws is None else _DELEGATION.decode(jws.payload)
    except msgspec.ValidationError:
        return None


def _structure(jws: Jws, kind: Kind, decoder: msgspec.json.Decoder[S]) -> S:
    """Return the claims of a signed token; raises `_Bad` for what is not exactly of this kind."""
    _require(compact.has_plain_header(jws, kind), compact.names_members_once(jws))
    try:
        return decoder.decode(jws.payload)
    except msgspec.ValidationError as wrong:
        raise _Bad(Verdict.INVALID) from wrong


def _require(*conditions: bool) -> None:
    if not all(conditions):
        raise _Bad(Verdict.INVALID)


def _is_bound(binding: _Binding, subject: str) -> bool:
    aid = aids.recognise(subject)
    return aid is not None and binding.jkt == _thumbprint(aid)


@lru_cache(maxsize=_KNOWN_THUMBPRINTS)
def _thumbprint(aid: aids.Aid) -> str | None:
    """Return the thumbprint of the key in an AID (RFC 7638), None where its text stands for no key."""
    try:
        return aitp.compute_aid_jkt(aid)
    except (ValueError, RuntimeError):
        return None
