"""aitp-cp search."""

from aitp_cp_client import ControlPlane, Hit
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.output import Columns, listing

COLUMNS: Columns[Hit] = {
    "kind": lambda hit: hit.kind,
    "id": lambda hit: hit.id,
    "name": lambda hit: hit.name,
    "status": lambda hit: hit.status,
}


def search(q: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        listing("hits", (await control_plane.search(q), False), COLUMNS, as_json=as_json)

    run(work)
