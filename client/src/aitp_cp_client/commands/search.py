"""aitp-cp search."""

from typing import TYPE_CHECKING, Annotated

import typer

from aitp_cp_client.commands.connection import at_server
from aitp_cp_client.commands.output import Columns, listing
from aitp_cp_client.commands.parameters import Json

if TYPE_CHECKING:
    from aitp_cp_client import ControlPlane, Hit

COLUMNS: "Columns[Hit]" = {
    "kind": lambda hit: hit.kind,
    "id": lambda hit: hit.id,
    "name": lambda hit: hit.name,
    "status": lambda hit: hit.status,
}


@at_server
async def search(
    control_plane: "ControlPlane",
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Any id, or the beginning of an agent's name.")],
    as_json: Json = False,
) -> None:
    """Find whatever has an id, and agents by name or by the ends of their AID."""
    listing("hits", (await control_plane.search(text), False), COLUMNS, as_json=as_json)
