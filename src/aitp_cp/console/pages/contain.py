"""Cut an agent off: the plan, what it hurts, and the act that carries out just this plan."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, get_args

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.console.forms import Form
from aitp_cp.console.page import action, render, screen, see_other
from aitp_cp.console.parts.link import link
from aitp_cp.containment import acting, service
from aitp_cp.containment.model import Containment, ExposedPeer, NewContainment
from aitp_cp.errors import BadRequest, PlanChanged
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry.store import names_of
from aitp_cp.runtime import Runtime
from aitp_cp.tcts.exposure import Collateral, HeldDelegations, Include
from aitp_cp.web.body import convert
from aitp_cp.web.path import path_aid
from aitp_cp.web.query import read_query
from aitp_cp_client.wire import aid as aids

TYPED_CHARS = 4  # of the AID's end, typed again: enough to notice that it is another agent's
MAX_PEERS = 200  # that the page names; the plan counts them all


class ContainFilter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    include: Annotated[Include, Meta(description="`verified` leaves out what nobody's signature proves")] = "all"
    held_delegations: Annotated[HeldDelegations, Meta(description="`revokeSource` cuts received delegations")] = "mark"


class ContainView(msgspec.Struct, frozen=True):
    """`problem` is why nothing was done, `changes` what differs from the plan that was confirmed.

    The form sends `counts` back, so that they can be compared with those of a later plan.
    """

    aid: str
    names: Mapping[str, str]
    plan: Containment
    counts: Mapping[str, int]
    verdicts: list[str]
    peers: list[ExposedPeer]
    collateral: list[Collateral]
    include: str
    held: str
    problem: str | None
    changes: list[str]
    includes: Sequence[str] = get_args(Include)
    helds: Sequence[str] = get_args(HeldDelegations)
    typed_chars: int = TYPED_CHARS


async def show(rt: Runtime, request: Request) -> Response:
    query = read_query(request, ContainFilter)
    return await _page(rt, request, NewContainment("-", None, query.held_delegations, query.include))


async def act(rt: Runtime, request: Request, form: Form) -> Response:
    aid = _aid(request)
    body = _body(form)
    problem = _problem(form, aid)
    if problem is not None:
        return await _page(rt, request, body, form, problem=problem)
    try:
        done = await acting.contain(rt, aid, body, actor_of(rt, request))
    except PlanChanged:
        changed = "the agent's live tokens have changed since this plan: nothing was done"
        return await _page(rt, request, body, form, problem=changed)
    if done is None:  # somebody else was quicker
        return see_other(link("/agents/{aid}/contain", aid=aid))
    return see_other(link("/containments/{id}", id=done.view.id))


async def _page(
    rt: Runtime, request: Request, body: NewContainment, form: Form | None = None, *, problem: str | None = None
) -> Response:
    aid = _aid(request)
    async with rt.db.connection() as conn:
        plan = await service.plan(conn, aid, msgspec.structs.replace(body, expect=None), rt.clock())
        names = await names_of(conn, (aid, *(peer.aid for peer in plan.exposed_peers[:MAX_PEERS])))
    if plan.containment is not None:
        return see_other(link("/containments/{id}", id=plan.containment.id))
    counts = {
        "issued": plan.tokens.issued,
        "held": plan.tokens.held,
        "delegations": plan.delegations.count,
        "peers": plan.exposed_peer_count,
        "revocations": plan.revocations,
    }
    view = ContainView(
        aid=aid,
        names=names,
        plan=plan,
        counts=counts,
        verdicts=[f"{count} {verdict}" for verdict, count in sorted(plan.tokens.by_verdict.items())],
        peers=plan.exposed_peers[:MAX_PEERS],
        collateral=plan.delegations.collateral[:MAX_PEERS],
        include=body.include,
        held=body.held_delegations,
        problem=problem,
        changes=[] if form is None else _changes(form, counts),
    )
    status = 200 if problem is None else 409
    return await render(rt, request, "contain.html", view, title="Contain", status=status)


def _aid(request: Request) -> str:
    aid = aids.recognise(path_aid(request))
    if aid is None:
        raise BadRequest("the path does not name an AID")
    return aid


def _body(form: Form) -> NewContainment:
    """Return what the form asks for; raises `BodyInvalid`."""
    members = {
        "reason": form.get("reason") or "-",
        "ticket": form.get("ticket") or None,
        "heldDelegations": form.get("held", "mark"),
        "include": form.get("include", "all"),
        "expect": form.get("expect"),
    }
    return convert(members, NewContainment)


def _problem(form: Form, aid: str) -> str | None:
    if not form.get("reason"):
        return "a containment needs a reason"
    if form.get("typed") != aid[-TYPED_CHARS:]:
        return f"these are not the last {TYPED_CHARS} characters of the AID: nothing was done"
    return None


def _changes(form: Form, now: Mapping[str, int]) -> list[str]:
    """Say what differs from the counts that the form was shown."""
    changes = []
    for name, count in now.items():
        was = form.get(f"was_{name}")
        if re.fullmatch(r"[0-9]{1,9}", was) and int(was) != count:
            changes.append(f"{name}: {int(was):,} → {count:,}")
    return changes


PAGES = (
    screen("/agents/{aid}/contain", show, scope=Scope.AGENTS_CONTAIN, query=ContainFilter),
    action("/agents/{aid}/contain", act, scope=Scope.AGENTS_CONTAIN, fresh_on="/agents/{aid}/contain"),
)
