"""aitp-cp tcts and aitp-cp delegations."""

from functools import partial
from typing import Unpack

from aitp_cp_client import ControlPlane
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.output import Columns, listing, some
from aitp_cp_client.tokens import Delegation, DelegationFilter, Tct, TctFilter

TCTS: Columns[Tct] = {
    "jti": lambda tct: tct.jti,
    "issuer": lambda tct: tct.issuer,
    "subject": lambda tct: tct.subject,
    "grants": lambda tct: tct.grants,
    "expires": lambda tct: tct.expires_at,
    "verdict": lambda tct: _verdict_with_doubts(tct),
    "revoked": lambda tct: tct.revoked_at,
}
DELEGATIONS: Columns[Delegation] = {
    "jti": lambda delegation: delegation.jti,
    "parent": lambda delegation: delegation.parent_jti,
    "delegator": lambda delegation: delegation.delegator,
    "delegatee": lambda delegation: delegation.delegatee,
    "scope": lambda delegation: delegation.scope,
    "expires": lambda delegation: delegation.expires_at,
    "verdict": lambda delegation: _verdict_with_doubts(delegation),
    "revoked": lambda delegation: delegation.revoked_at,
}


def list_tcts(limit: int, *, as_json: bool, **filters: Unpack[TctFilter]) -> None:
    async def work(control_plane: ControlPlane) -> None:
        page = await some(partial(control_plane.tcts.page, **filters), limit)
        listing("tcts", page, TCTS, as_json=as_json)

    run(work)


def list_delegations(limit: int, *, as_json: bool, **filters: Unpack[DelegationFilter]) -> None:
    async def work(control_plane: ControlPlane) -> None:
        page = await some(partial(control_plane.delegations.page, **filters), limit)
        listing("delegations", page, DELEGATIONS, as_json=as_json)

    run(work)


def _verdict_with_doubts(row: Tct | Delegation) -> str:
    """Return the verdict, and whether reports mismatch or contradict each other."""
    doubts = [name for name, is_set in (("mismatch", row.mismatch), ("conflict", row.conflict)) if is_set]
    return ", ".join([row.verdict, *doubts])
