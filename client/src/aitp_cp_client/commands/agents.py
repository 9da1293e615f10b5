"""aitp-cp agents; `contain` and `release` are in `containments`."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aitp_cp_client.commands.connection import at_server
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.files import save
from aitp_cp_client.commands.output import Columns, document, line, listing, record, some
from aitp_cp_client.commands.parameters import Aid, Json, Limit, Output, as_options, group
from aitp_cp_client.wire.visible import escaped

if TYPE_CHECKING:
    from aitp_cp_client import Agent, ControlPlane, KeptManifest

COLUMNS: "Columns[Agent]" = {
    "aid": lambda agent: agent.aid,
    "name": lambda agent: agent.display_name,
    "status": lambda agent: agent.status,
    "last seen": lambda agent: agent.last_seen_at,
}
MORE: "Columns[Agent]" = {
    "namespace": lambda agent: agent.namespace,
    "capabilities": lambda agent: agent.offered_caps,
    "registered": lambda agent: agent.registered_at,
    "last enrolled": lambda agent: agent.last_enrolled_at,
    "handshake endpoint": lambda agent: agent.handshake_endpoint,
}
MANIFESTS: "Columns[KeptManifest]" = {
    "number": lambda kept: kept.seq,
    "received": lambda kept: kept.received_at,
    "published": lambda kept: kept.published_at,
    "bytes": lambda kept: kept.bytes,
    "sha256": lambda kept: kept.sha256,
}

agents = group("Registered agents.")


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Options of `agents list`."""

    capability: Annotated[str | None, typer.Option(help="Only agents that offer this capability.")] = None
    name: Annotated[str | None, typer.Option(help="Only this exact display name.")] = None
    find: Annotated[str | None, typer.Option(help="Beginning of a name, ends of an AID, or a capability.")] = None
    namespace: Annotated[str | None, typer.Option(help="Only this namespace.")] = None
    status: Annotated[
        Literal["active", "expired", "deregistered", "contained", "all"],
        typer.Option(help="Only agents with this status."),
    ] = "active"
    limit: Limit = 100
    as_json: Json = False


@agents.command("list", epilog=LEGEND)
@at_server
@as_options(AgentOptions)
async def list_agents(control_plane: "ControlPlane", options: AgentOptions) -> None:
    """List agents, oldest registration first."""
    fetch = partial(
        control_plane.agents.page,
        capability=options.capability,
        display_name=options.name,
        q=options.find,
        namespace=options.namespace,
        status=options.status,
    )
    listing("agents", await some(fetch, options.limit), COLUMNS, as_json=options.as_json)


@agents.command("show", epilog=LEGEND)
@at_server
async def show(control_plane: "ControlPlane", aid: Aid, as_json: Json = False) -> None:
    """Show an agent."""
    record(await control_plane.agents.get(aid), {**COLUMNS, **MORE}, as_json=as_json)


@agents.command("manifests", epilog=LEGEND)
@at_server
async def manifests(control_plane: "ControlPlane", aid: Aid, as_json: Json = False) -> None:
    """List the manifests that an agent registered, newest first."""
    listing("manifests", (await control_plane.agents.manifests(aid), False), MANIFESTS, as_json=as_json)


@agents.command("deregister", epilog=LEGEND)
@at_server
async def deregister(control_plane: "ControlPlane", aid: Aid, as_json: Json = False) -> None:
    """Remove an agent from the registry; may be repeated."""
    done = await control_plane.agents.deregister(aid)
    if as_json:
        document(done)
    else:
        line(escaped(f"{done.status} {done.aid}"))


@agents.command("export", epilog=LEGEND)
@at_server
async def export(
    control_plane: "ControlPlane",
    aid: Aid,
    format: Annotated[Literal["json", "jsonl"], typer.Option(help="One document, or one record per line.")] = "json",
    event_limit: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="At most this many of its newest events.")
    ] = None,
    output: Output = None,
) -> None:
    """Export an agent with its sessions, tokens and newest events."""
    await save(control_plane.agents.export(aid, format, event_limit), output)
