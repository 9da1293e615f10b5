"""aitp-cp agents."""

from functools import partial
from pathlib import Path
from typing import Unpack

from aitp_cp_client import Agent, ControlPlane, KeptManifest
from aitp_cp_client.agents import AgentFilter, Format
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.files import save
from aitp_cp_client.commands.output import Columns, document, fields, line, listing, plain, some

COLUMNS: Columns[Agent] = {
    "aid": lambda agent: agent.aid,
    "name": lambda agent: agent.display_name,
    "status": lambda agent: agent.status,
    "last seen": lambda agent: agent.last_seen_at,
}
MORE: Columns[Agent] = {
    "namespace": lambda agent: agent.namespace,
    "capabilities": lambda agent: agent.offered_caps,
    "registered": lambda agent: agent.registered_at,
    "last enrolled": lambda agent: agent.last_enrolled_at,
    "handshake endpoint": lambda agent: agent.handshake_endpoint,
}


def list_agents(limit: int, *, as_json: bool, **filters: Unpack[AgentFilter]) -> None:
    async def work(control_plane: ControlPlane) -> None:
        page = await some(partial(control_plane.agents.page, **filters), limit)
        listing("agents", page, COLUMNS, as_json=as_json)

    run(work)


def show(aid: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        agent = await control_plane.agents.get(aid)
        if as_json:
            document(agent)
        else:
            fields({name: of(agent) for name, of in [*COLUMNS.items(), *MORE.items()]})

    run(work)


KEPT: Columns[KeptManifest] = {
    "number": lambda kept: kept.seq,
    "received": lambda kept: kept.received_at,
    "published": lambda kept: kept.published_at,
    "bytes": lambda kept: kept.bytes,
    "sha256": lambda kept: kept.sha256,
}


def manifests(aid: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        listing("manifests", (await control_plane.agents.manifests(aid), False), KEPT, as_json=as_json)

    run(work)


def deregister(aid: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        done = await control_plane.agents.deregister(aid)
        if as_json:
            document(done)
        else:
            line(plain(f"{done.status} {done.aid}"))

    run(work)


def export(aid: str, format: Format, event_limit: int | None, output: Path | None) -> None:
    run(lambda control_plane: save(control_plane.agents.export(aid, format, event_limit), output))
