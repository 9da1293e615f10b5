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
    "verdict": lambda tct: _worth(tct),
    "revoked": lambda tct: tct.revoked_at,
}
DELEGATIONS: Columns[Delegation] = {
    "jti": lambda delegation: delegation.jti,
    "parent": lambda delegation: delegation.parent_jti,
    "delegator": lambda delegation: delegation.delegator,
    "delegatee": lambda delegation: delegation.delegatee,
    "scope": lambda delegation: delegation.scope,
    "expires": lambda delegation: delegation.expires_at,
    "verdict": lambda delegation: _worth(delegation),
    "revoked": lambda delegation: delegation.revoked_at,
}


def list_tcts(limit: int, *, as_json: bool, **wanted: Unpack[TctFilter]) -> None:
    async def work(control_plane: ControlPlane) -> None:
        found = await some(partial(control_plane.tcts.page, **wanted), limit)
        listing("tcts", found, TCTS, as_json=as_json)

    run(work)


def list_delegations(limit: int, *, as_json: bool, **wanted: Unpack[DelegationFilter]) -> None:
    async def work(control_plane: ControlPlane) -> None:
        found = await some(partial(control_plane.delegations.page, **wanted), limit)
        listing("delegations", found, DELEGATIONS, as_json=as_json)

    run(work)


def _worth(row: Tct | Delegation) -> str:
    """The verdict, and what else says that somebody lies."""
    doubts = [name for name, is_so in (("mismatch", row.mismatch), ("conflict", row.conflict)) if is_so]
    return ", ".join([row.verdict, *doubts])
