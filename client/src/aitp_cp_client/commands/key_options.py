"""`aitp-cp keys`, for keys at a server or, where the server's distribution is installed, in its database."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias
from uuid import UUID

import typer

from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.grouping import as_options, read_actor, read_duration, read_expiry

if TYPE_CHECKING:
    from aitp_cp_client.commands.keys import KeyAccess

Work: TypeAlias = "Callable[[KeyAccess], Awaitable[None]]"
Run = Callable[[Work], None]

Json = Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")]
KeyId = Annotated[UUID, typer.Argument(metavar="KEY", help="The key's id.")]


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What `keys create` takes."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will use it; the audit shows the name.")]
    role: Annotated[
        Literal["admin", "operator", "auditor", "reporter"] | None, typer.Option(help="Scopes under one name.")
    ] = None
    scope: Annotated[list[str] | None, typer.Option(metavar="SCOPE", help="One scope; may be repeated.")] = None
    expires: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=read_expiry, help="After 90d, 12h, 30m or 5s, or an ISO-8601 time."),
    ] = None
    rate: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Requests a minute, in place of the server's limit.")
    ] = None
    adopt: Annotated[
        str | None,
        typer.Option(
            metavar="ACTOR",
            parser=read_actor,
            help="Act as apikey:<16 hex>, the environment key that this one replaces; needs DATABASE_URL.",
        ),
    ] = None
    as_json: Json = False


def keys_group(run: Run) -> typer.Typer:
    """Return the commands; `run` opens where the keys are and does the work there."""
    keys = typer.Typer(help="Keys of the API: who may call, and what.", epilog=LEGEND, no_args_is_help=True)

    @keys.command("create", epilog=LEGEND)
    @as_options(KeyOptions)
    def create(options: KeyOptions) -> None:
        """Create a key with a role or with scopes; standard output gets the key, this once."""
        from aitp_cp_client.commands.keys import create

        create(run, options)

    @keys.command("list", epilog=LEGEND)
    def list_keys(
        state: Annotated[
            Literal["active", "expired", "revoked", "all"], typer.Option(help="Only keys in this state.")
        ] = "active",
        limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")] = 100,
        as_json: Json = False,
    ) -> None:
        """Keys, newest first, without their secrets."""
        from aitp_cp_client.commands.keys import list_keys

        list_keys(run, state, limit, as_json=as_json)

    _add_ends(keys, run)
    return keys


def _add_ends(keys: typer.Typer, run: Run) -> None:
    """Add the commands that end a key."""

    @keys.command("rotate", epilog=LEGEND)
    def rotate(
        key: KeyId,
        overlap: Annotated[
            timedelta | None,
            typer.Option(
                metavar="DURATION",
                parser=read_duration,
                help="How long the old key stays valid; 1d by default.",
            ),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Replace a key by a new one with the same rights; standard output gets the key, this once."""
        from aitp_cp_client.commands.keys import rotate

        rotate(run, key, overlap, as_json=as_json)

    @keys.command("revoke", epilog=LEGEND)
    def revoke(
        key: KeyId,
        family: Annotated[bool, typer.Option("--family", help="Also all keys that rotations have made of it.")] = False,
        reason: Annotated[str | None, typer.Option(help="Kept with the key and in the audit.")] = None,
        as_json: Json = False,
    ) -> None:
        """Revoke a key at once; there is no way back."""
        from aitp_cp_client.commands.keys import revoke

        revoke(run, key, reason, family=family, as_json=as_json)
