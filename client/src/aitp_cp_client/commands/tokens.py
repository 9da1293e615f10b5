"""aitp-cp tcts and aitp-cp delegations."""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

from aitp_cp_client import ControlPlane
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.output import Columns, listing, some, table
from aitp_cp_client.tokens import Delegation, DelegationFilter, Statement, Tct, TctFilter

SHARED_KEY = "shared key"

TCTS: Columns[Tct] = {
    "jti": lambda tct: tct.jti,
    "issuer": lambda tct: tct.issuer,
    "subject": lambda tct: tct.subject,
    "grants": lambda tct: tct.grants,
    "expires": lambda tct: tct.expires_at,
    "verdict": lambda tct: _verdict_with_doubts(tct),
    "reported by": lambda tct: tct.reported_by or SHARED_KEY,
    "revoked": lambda tct: tct.revoked_at,
}
# What each reporter says where they contradict each other.
STATEMENTS: Columns[tuple[Tct, Statement]] = {
    "in conflict": lambda row: row[0].jti,
    "issuer": lambda row: row[1].issuer,
    "subject": lambda row: row[1].subject,
    "expires": lambda row: row[1].expires_at,
    "verdict": lambda row: row[1].verdict,
    "reported by": lambda row: row[1].reported_by or SHARED_KEY,
    "revoked": lambda row: row[1].revoked_at,
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
        if not as_json:
            show_conflicts(page[0])

    run(work)


def show_conflicts(tcts: Sequence[Tct]) -> None:
    """Print who says what of the tokens about which reporters contradict each other, if there are any."""
    statements = [(tct, statement) for tct in tcts if tct.conflict for statement in tct.statements]
    if statements:
        table(statements, STATEMENTS)


def list_delegations(limit: int, *, as_json: bool, **filters: Unpack[DelegationFilter]) -> None:
    async def work(control_plane: ControlPlane) -> None:
        page = await some(partial(control_plane.delegations.page, **filters), limit)
        listing("delegations", page, DELEGATIONS, as_json=as_json)

    run(work)


def _verdict_with_doubts(row: Tct | Delegation) -> str:
    """Return the verdict, and whether reports mismatch or contradict each other."""
    doubts = [name for name, is_set in (("mismatch", row.mismatch), ("conflict", row.conflict)) if is_set]
    return ", ".join([row.verdict, *doubts])
