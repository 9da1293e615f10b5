"""aitp-cp tcts and aitp-cp delegations."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from aitp_cp_client.commands.connection import at_server
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.output import Columns, listing, some, table
from aitp_cp_client.commands.parameters import (
    Active,
    Json,
    Limit,
    WithVerdict,
    as_options,
    group,
    read_expiry,
)

if TYPE_CHECKING:
    from aitp_cp_client import ControlPlane
    from aitp_cp_client.tokens import Delegation, Statement, Tct

SHARED_KEY = "shared key"

TCTS: "Columns[Tct]" = {
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
STATEMENTS: "Columns[tuple[Tct, Statement]]" = {
    "in conflict": lambda row: row[0].jti,
    "issuer": lambda row: row[1].issuer,
    "subject": lambda row: row[1].subject,
    "expires": lambda row: row[1].expires_at,
    "verdict": lambda row: row[1].verdict,
    "reported by": lambda row: row[1].reported_by or SHARED_KEY,
    "revoked": lambda row: row[1].revoked_at,
}
DELEGATIONS: "Columns[Delegation]" = {
    "jti": lambda delegation: delegation.jti,
    "parent": lambda delegation: delegation.parent_jti,
    "delegator": lambda delegation: delegation.delegator,
    "delegatee": lambda delegation: delegation.delegatee,
    "scope": lambda delegation: delegation.scope,
    "expires": lambda delegation: delegation.expires_at,
    "verdict": lambda delegation: _verdict_with_doubts(delegation),
    "revoked": lambda delegation: delegation.revoked_at,
}

tcts = group("Tokens that agents reported.")
delegations = group("Delegations that agents reported.")


@dataclass(frozen=True, slots=True)
class TctOptions:
    """Options of `tcts list`."""

    verdict: WithVerdict = None
    issuer: Annotated[str | None, typer.Option(metavar="AID", help="Tokens that this agent issued.")] = None
    subject: Annotated[str | None, typer.Option(metavar="AID", help="Tokens that this agent holds.")] = None
    active: Active = False
    expires_before: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME", parser=read_expiry, help="Active ones that end until then (or 7d), the next first."
        ),
    ] = None
    limit: Limit = 100
    as_json: Json = False


@tcts.command("list", epilog=LEGEND)
@at_server
@as_options(TctOptions)
async def list_tcts(control_plane: "ControlPlane", options: TctOptions) -> None:
    """Tokens, newest issued first; `verified` says that the issuer signed it, not that the subject took part."""
    fetch = partial(
        control_plane.tcts.page,
        verdict=options.verdict,
        issuer=options.issuer,
        subject=options.subject,
        active=options.active,
        expires_before=options.expires_before,
    )
    page = await some(fetch, options.limit)
    listing("tcts", page, TCTS, as_json=options.as_json)
    if not options.as_json:
        show_conflicts(page[0])


def show_conflicts(tcts: "Sequence[Tct]") -> None:
    """Print who says what of the tokens about which reporters contradict each other, if there are any."""
    statements = [(tct, statement) for tct in tcts if tct.conflict for statement in tct.statements]
    if statements:
        table(statements, STATEMENTS)


@dataclass(frozen=True, slots=True)
class DelegationOptions:
    """Options of `delegations list`."""

    verdict: WithVerdict = None
    delegator: Annotated[str | None, typer.Option(metavar="AID", help="Delegations by this agent.")] = None
    delegatee: Annotated[str | None, typer.Option(metavar="AID", help="Delegations to this agent.")] = None
    active: Active = False
    limit: Limit = 100
    as_json: Json = False


@delegations.command("list", epilog=LEGEND)
@at_server
@as_options(DelegationOptions)
async def list_delegations(control_plane: "ControlPlane", options: DelegationOptions) -> None:
    """Delegations, newest issued first."""
    fetch = partial(
        control_plane.delegations.page,
        verdict=options.verdict,
        delegator=options.delegator,
        delegatee=options.delegatee,
        active=options.active,
    )
    listing("delegations", await some(fetch, options.limit), DELEGATIONS, as_json=options.as_json)


def _verdict_with_doubts(row: "Tct | Delegation") -> str:
    """Return the verdict, and whether reports mismatch or contradict each other."""
    doubts = [name for name, is_set in (("mismatch", row.mismatch), ("conflict", row.conflict)) if is_set]
    return ", ".join([row.verdict, *doubts])
