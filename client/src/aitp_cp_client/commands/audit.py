"""aitp-cp audit."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aitp_cp_client.commands.connection import at_server
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.files import save
from aitp_cp_client.commands.output import Columns, compact, listing, some
from aitp_cp_client.commands.parameters import Json, Limit, Moment, Output, as_options, group

if TYPE_CHECKING:
    from aitp_cp_client import AuditEntry, ControlPlane
    from aitp_cp_client.audit import AuditFilter

COLUMNS: "Columns[AuditEntry]" = {
    "time": lambda entry: entry.created_at,
    "action": lambda entry: entry.action,
    "actor": lambda entry: entry.actor_id,
    "name": lambda entry: entry.actor_name,
    "target": lambda entry: entry.target_id,
    "details": lambda entry: compact(entry.details),
    "request": lambda entry: entry.request_id,
}

audit = group("The audit of admin changes.")


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """Which entries of the audit."""

    actor: Annotated[str | None, typer.Option(help="Who: key:…, user:…, apikey:…")] = None
    action: Annotated[str | None, typer.Option(help="What was done, such as agent.contain.")] = None
    target: Annotated[str | None, typer.Option(help="To what: an AID or an id.")] = None
    request: Annotated[str | None, typer.Option(help="The request it was done in.")] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None

    @property
    def filters(self) -> "AuditFilter":
        return {
            "actor": self.actor,
            "action": self.action,
            "target": self.target,
            "request_id": self.request,
            "since": self.since,
            "until": self.until,
        }


@dataclass(frozen=True, slots=True)
class AuditOptions(AuditFilters):
    """Options of `audit list`."""

    limit: Limit = 100
    as_json: Json = False


@dataclass(frozen=True, slots=True)
class AuditExportOptions(AuditFilters):
    """Options of `audit export`."""

    format: Annotated[Literal["json", "jsonl", "csv"], typer.Option(help="How entries are written.")] = "json"
    output: Output = None


@audit.command("list", epilog=LEGEND)
@at_server
@as_options(AuditOptions)
async def list_entries(control_plane: "ControlPlane", options: AuditOptions) -> None:
    """List the admin audit, newest first."""
    page = await some(partial(control_plane.audit.page, **options.filters), options.limit)
    listing("entries", page, COLUMNS, as_json=options.as_json)


@audit.command("export", epilog=LEGEND)
@at_server
@as_options(AuditExportOptions)
async def export(control_plane: "ControlPlane", options: AuditExportOptions) -> None:
    """Export the admin audit, newest first; each export is an entry of the audit."""
    await save(control_plane.audit.export(options.format, **options.filters), options.output)
