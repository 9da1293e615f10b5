"""aitp-cp revoke and aitp-cp revocations."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from aitp_cp_client.commands import exits
from aitp_cp_client.commands.connection import at_server
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.output import Columns, document, fields, line, listing, note, record, some, stop, table
from aitp_cp_client.commands.parameters import Json, Limit, group

if TYPE_CHECKING:
    from aitp_cp_client import ControlPlane, Revocation, RevocationList

COLUMNS: "Columns[Revocation]" = {
    "jti": lambda entry: entry.jti,
    "revoked": lambda entry: entry.revoked_at,
    "reason": lambda entry: entry.reason,
    "listed": lambda entry: entry.listed,
}

revocations = group("Revoked tokens.")


@at_server
async def revoke(
    control_plane: "ControlPlane",
    jtis: Annotated[list[str], typer.Argument(metavar="JTI...", help="The tokens' ids.")],
    reason: Annotated[str | None, typer.Option(help="For the list and the audit.")] = None,
    as_json: Json = False,
) -> None:
    """Revoke tokens and everything delegated from them. This cannot be undone."""
    if len(jtis) == 1:
        record(await control_plane.revocations.add(jtis[0], reason), COLUMNS, as_json=as_json)
        return
    done = await control_plane.revocations.add_all(jtis, reason)
    if as_json:
        document(done)
    else:
        table(done.entries, COLUMNS)
        line(f"{done.revoked} revoked, {done.already_revoked} already revoked")


@revocations.command("list", epilog=LEGEND)
@at_server
async def list_entries(control_plane: "ControlPlane", limit: Limit = 100, as_json: Json = False) -> None:
    """List the entries of the deny list, newest first."""
    listing("entries", await some(control_plane.revocations.page, limit), COLUMNS, as_json=as_json)


@revocations.command("verify", epilog=LEGEND)
@at_server
async def verify(
    control_plane: "ControlPlane",
    pin: Annotated[str | None, typer.Option(metavar="AID", help="The expected AID of the control plane.")] = None,
    as_json: Json = False,
) -> None:
    """Fetch the signed list and verify it as a peer would; exits 6 when it does not verify."""
    try:
        verified = await control_plane.revocation_list(pin)
    except ValueError as wrong:
        stop(f"--pin: {wrong}", exits.USAGE)
    _print_verified(verified, as_json=as_json)


def _print_verified(verified: "RevocationList", *, as_json: bool) -> None:
    age = max(0, round((datetime.now(UTC) - verified.published_at).total_seconds()))
    summary = {
        "verified": True,
        "issuer": verified.issuer,
        "pinned": verified.pinned,
        "publishedAt": verified.published_at,
        "expiresAt": verified.expires_at,
        "entries": len(verified.entries),
    }
    if as_json:
        document(summary)
        return
    line(f"verified: {len(verified.entries)} entries, signed {age} s ago")
    fields({"issuer": verified.issuer, "published": verified.published_at, "expires": verified.expires_at})
    if not verified.pinned:
        note("the issuer is only what this server claims; use --pin AID to verify it")
