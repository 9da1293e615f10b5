"""aitp-cp revoke and aitp-cp revocations."""

from datetime import UTC, datetime

from aitp_cp_client import ControlPlane, Revocation, RevocationList
from aitp_cp_client.commands import exits
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.output import Columns, document, fields, line, listing, note, some, stop

COLUMNS: Columns[Revocation] = {
    "jti": lambda entry: entry.jti,
    "revoked": lambda entry: entry.revoked_at,
    "reason": lambda entry: entry.reason,
    "listed": lambda entry: entry.listed,
}


def revoke(jtis: list[str], reason: str | None, *, as_json: bool) -> None:
    """Revoke one token, or several in one transaction."""

    async def work(control_plane: ControlPlane) -> None:
        if len(jtis) > 1:
            await _revoke_all(control_plane, jtis, reason, as_json=as_json)
            return
        entry = await control_plane.revocations.add(jtis[0], reason)
        if as_json:
            document(entry)
        else:
            fields({name: of(entry) for name, of in COLUMNS.items()})

    run(work)


async def _revoke_all(control_plane: ControlPlane, jtis: list[str], reason: str | None, *, as_json: bool) -> None:
    done = await control_plane.revocations.add_all(jtis, reason)
    if as_json:
        document(done)
        return
    listing("entries", (done.entries, False), COLUMNS, as_json=False)
    line(f"{done.revoked} revoked, {done.already_revoked} already revoked")


def list_entries(limit: int, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        listing("entries", await some(control_plane.revocations.page, limit), COLUMNS, as_json=as_json)

    run(work)


def verify(pin: str | None, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        try:
            verified = await control_plane.revocation_list(pin)
        except ValueError as wrong:
            stop(f"--pin: {wrong}", exits.USAGE)
        _print_verified(verified, as_json=as_json)

    run(work)


def _print_verified(verified: RevocationList, *, as_json: bool) -> None:
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
