"""Containments: what was cut off, and how far that has reached its peers."""

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.console.forms import Form
from aitp_cp.console.page import action, onward, render, screen, see_other
from aitp_cp.console.parts.link import link
from aitp_cp.containment import acting, reach, service, store
from aitp_cp.containment.model import MAX_REASON, ORDER, Containment, ContainmentQuery, ContainmentView
from aitp_cp.containment.reach import PeerReach, Reach
from aitp_cp.errors import BadRequest
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry.store import names_of
from aitp_cp.runtime import Runtime
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import read_query

MAX_PEERS = 500
KNOWN = ("unknown", "sent", "confirmed")  # what needs a person comes first


class ContainmentsView(msgspec.Struct, frozen=True):
    rows: list[ContainmentView]
    names: Mapping[str, str]
    filter: ContainmentQuery
    next_url: str | None


class ContainmentPage(msgspec.Struct, frozen=True):
    """`sent` of the peers were given the list and have not shown that they hold it; they count as unknown."""

    containment: ContainmentView
    names: Mapping[str, str]
    plan: Containment
    reach: Reach
    sent: int
    peers: list[PeerReach]
    unnamed: int


async def list_containments(rt: Runtime, request: Request) -> Response:
    query = read_query(request, ContainmentQuery)
    async with rt.db.connection() as conn:
        page = await store.page(conn, query, query.window(ORDER))
        names = await names_of(conn, (each.aid for each in page.containments))
    view = ContainmentsView(page.containments, names, query, onward(request, page.next_before))
    return await render(rt, request, "containments.html", view, title="Containments")


async def get_containment(rt: Runtime, request: Request) -> Response:
    id = path_uuid(request)
    async with rt.db.connection() as conn:
        stored = await service.get(conn, id)
        reached = await reach.reach(conn, id)
        peers = sorted(await reach.peers(conn, stored), key=lambda peer: KNOWN.index(peer.known))
        shown = peers[:MAX_PEERS]
        names = await names_of(conn, (stored.view.aid, *(each.peer.aid for each in shown)))
    view = ContainmentPage(
        containment=stored.view,
        names=names,
        plan=service.shown(stored),
        reach=reached,
        sent=sum(peer.known == "sent" for peer in peers),
        peers=shown,
        unnamed=stored.plan.exposed_peer_count - len(shown),
    )
    return await render(rt, request, "containment.html", view, title="Containment")


async def release(rt: Runtime, request: Request, form: Form) -> Response:
    id = path_uuid(request)
    reason = form.get("reason")
    if not 0 < len(reason) <= MAX_REASON:
        raise BadRequest(f"a release needs a reason of at most {MAX_REASON} characters")
    async with rt.db.connection() as conn:
        stored = await service.get(conn, id)
    if stored.view.released_at is None:  # else the form was sent twice
        await acting.release(rt, stored.view.aid, reason, actor_of(rt, request))
    return see_other(link("/containments/{id}", id=id))


PAGES = (
    screen("/containments", list_containments, scope=Scope.AGENTS_READ, nav="Containments", query=ContainmentQuery),
    screen("/containments/{id}", get_containment, scope=Scope.AGENTS_READ),
    action("/containments/{id}/release", release, scope=Scope.AGENTS_CONTAIN, fresh_on="/containments/{id}"),
)
