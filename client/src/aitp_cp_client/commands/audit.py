"""aitp-cp audit."""

from aitp_cp_client import AuditEntry, ControlPlane
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.output import Columns, compact, listing, some

COLUMNS: Columns[AuditEntry] = {
    "time": lambda entry: entry.created_at,
    "action": lambda entry: entry.action,
    "actor": lambda entry: entry.actor_id,
    "name": lambda entry: entry.actor_name,
    "target": lambda entry: entry.target_id,
    "details": lambda entry: compact(entry.details),
    "request": lambda entry: entry.request_id,
}


def list_entries(limit: int, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        listing("entries", await some(control_plane.audit.page, limit), COLUMNS, as_json=as_json)

    run(work)
