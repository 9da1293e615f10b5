"""aitp-cp audit."""

from functools import partial
from pathlib import Path
from typing import Literal, Unpack

from aitp_cp_client import AuditEntry, ControlPlane
from aitp_cp_client.audit import AuditFilter
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.files import save
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


def list_entries(limit: int, *, as_json: bool, **filters: Unpack[AuditFilter]) -> None:
    async def work(control_plane: ControlPlane) -> None:
        page = await some(partial(control_plane.audit.page, **filters), limit)
        listing("entries", page, COLUMNS, as_json=as_json)

    run(work)


def export(format: Literal["json", "jsonl", "csv"], output: Path | None, **filters: Unpack[AuditFilter]) -> None:
    run(lambda control_plane: save(control_plane.audit.export(format, **filters), output))
