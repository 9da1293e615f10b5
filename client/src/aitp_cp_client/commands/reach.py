"""aitp-cp containments reach: which exposed peers hold the list with a containment's revocations."""

from typing import TYPE_CHECKING

from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.output import Columns, err, note, record, table
from aitp_cp_client.commands.progress import counting

if TYPE_CHECKING:
    from aitp_cp_client import Containment, ControlPlane, Reach
    from aitp_cp_client.containments import ExposedPeer

WATCH_SECS = 2.0  # between two looks; the server notes every 10 s who holds which list
MAX_CLIENTS = 1000  # that the server names; beyond it a confirmed peer may be shown as unknown

SUMMARY: "Columns[Reach]" = {
    "listed": lambda reach: reach.listed_at,
    "exposed peers": lambda reach: reach.exposed_peers.total,
    "confirmed": lambda reach: reach.exposed_peers.confirmed,
    "unknown": lambda reach: reach.exposed_peers.unknown,
    "half confirmed": lambda reach: reach.half_confirmed_at,
    "95 % confirmed": lambda reach: reach.most_confirmed_at,
    "webhooks delivered": lambda reach: reach.webhooks.delivered,
    "webhooks pending": lambda reach: reach.webhooks.pending,
    "webhooks failed": lambda reach: reach.webhooks.failed,
}


def show(id: str, *, watch: bool, as_json: bool) -> None:
    """Show the reach; with `watch`, once it is complete or at Ctrl-C."""

    async def work(control_plane: "ControlPlane") -> None:
        plan, first = await control_plane.containments.get(id), await control_plane.containments.reach(id)
        seen = [first]
        try:
            if watch and not _is_complete(first):
                await _watch(control_plane, id, seen)
        finally:
            _show(plan, seen[-1], as_json=as_json)

    run(work, until_interrupted=watch)


async def _watch(control_plane: "ControlPlane", id: str, seen: "list[Reach]") -> None:
    """Keep the latest reach in `seen` until it is complete."""
    import asyncio

    with counting("{task.description}") as progress:
        task = progress.add_task("confirmed", total=seen[0].exposed_peers.total)
        _announce(seen[0])
        while not _is_complete(seen[-1]):
            progress.update(task, completed=seen[-1].exposed_peers.confirmed)
            await asyncio.sleep(WATCH_SECS)
            latest = await control_plane.containments.reach(id)
            if latest.exposed_peers != seen[-1].exposed_peers:
                _announce(latest)
            seen[:] = [latest]


def _announce(reach: "Reach") -> None:
    """Say what the progress bar shows where there is no terminal."""
    if not err.is_terminal:
        note(f"{reach.exposed_peers.confirmed} of {reach.exposed_peers.total} exposed peers confirmed")


def _is_complete(reach: "Reach") -> bool:
    return reach.listed_at is not None and not reach.exposed_peers.unknown


def _show(plan: "Containment", reach: "Reach", *, as_json: bool) -> None:
    record(reach, SUMMARY, as_json=as_json)
    if as_json or not plan.exposed_peers:
        return
    shown = {client.client: client for client in reach.clients if client.kind == "agent"}
    holding = {aid for aid, client in shown.items() if client.holds == "current"}
    columns: Columns[ExposedPeer] = {
        "exposed peer": lambda peer: peer.aid,
        "name": lambda peer: peer.display_name,
        "list": lambda peer: "confirmed" if peer.aid in holding else "unknown",
        "seen": lambda peer: shown[peer.aid].seen_at if peer.aid in shown else None,
    }
    table(plan.exposed_peers, columns)
    if len(reach.clients) >= MAX_CLIENTS:
        note(f"the server names the {MAX_CLIENTS} clients seen last; others are shown as unknown")
