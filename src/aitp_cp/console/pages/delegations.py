"""What was delegated from a token or a delegation, as a tree with its revocations."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.forms import Form
from aitp_cp.console.page import action, render, screen, see_other
from aitp_cp.console.pages.revoking import RevocationPlan, plan_of, revoke
from aitp_cp.console.parts.link import link
from aitp_cp.console.parts.text import strings
from aitp_cp.console.parts.times import moment_of
from aitp_cp.errors import NotFound
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry.store import names_of
from aitp_cp.runtime import Runtime
from aitp_cp.tcts import queries
from aitp_cp.tcts.views import DelegationView, TctView
from aitp_cp.web.path import path_uuid

MAX_SCOPE = 40  # grants that a node shows, and as many that are not passed on


class Node(msgspec.Struct, frozen=True):
    """One delegation; `by` is the delegation above that revokes it, `below` counts everything under it.

    `dropped` are the grants of its parent that it does not pass on.
    """

    delegation: DelegationView
    status: str
    by: UUID | None
    grants: Sequence[str]
    dropped: Sequence[str]
    children: list["Node"]
    below: int


class DelegationPage(msgspec.Struct, frozen=True):
    """`token` is the token at the root if it is known, `parent` what the first delegation rests on."""

    names: Mapping[str, str]
    token: TctView | None
    parent: UUID | None
    roots: list[Node]
    plan: RevocationPlan


class _Tree:
    """Builds nodes from rows in which the levels above come first; a row is placed once."""

    def __init__(self, rows: Iterable[DelegationView], now: datetime) -> None:
        self._now = now
        self._children: dict[UUID, list[DelegationView]] = {}
        for row in rows:
            self._children.setdefault(row.parent_jti, []).append(row)
        self._placed: set[UUID] = set()

    def nodes(self, rows: Sequence[DelegationView], above: Sequence[str] | None, by: UUID | None) -> list[Node]:
        new = [row for row in rows if row.jti not in self._placed]
        self._placed |= {row.jti for row in new}
        return [self._node(row, above, by) for row in new]

    def below(self, parent: UUID) -> list[DelegationView]:
        return self._children.get(parent, [])

    def _node(self, row: DelegationView, above: Sequence[str] | None, by: UUID | None) -> Node:
        scope = strings(row.scope)
        status = self._status(row)
        children = self.nodes(self.below(row.jti), scope, row.jti if status == "revoked here" else by)
        return Node(
            row,
            status,
            by if status == "revoked above" else None,
            scope[:MAX_SCOPE],
            [grant for grant in above or () if grant not in scope][:MAX_SCOPE],
            children,
            sum(child.below + 1 for child in children),
        )

    def _status(self, row: DelegationView) -> str:
        if row.revoked:
            return "revoked here" if row.revoked_reason == "explicit" else "revoked above"
        ends = moment_of(row.expires_at)
        return "expired" if ends is not None and ends <= self._now else "live"


async def show_or_revoke(rt: Runtime, request: Request, form: Form | None = None) -> Response:
    """Show what hangs below an id; with a form, revoke it as that was planned."""
    view = await _view(rt, request, form)
    if form is not None and await revoke(rt, request, form, view.plan):
        return see_other(view.plan.page)
    status = 409 if view.plan.changed else 200
    return await render(rt, request, "delegation.html", view, title="Delegations", status=status)


async def _view(rt: Runtime, request: Request, form: Form | None) -> DelegationPage:
    jti = path_uuid(request, "jti")
    async with rt.db.connection() as conn:
        rows = (await queries.tree(conn, jti, None)).read().delegations
        own = next((row for row in rows if row.jti == jti), None)
        parent = jti if own is None else own.parent_jti
        token = await queries.find_tct(conn, parent)
        if not rows and token is None:
            raise NotFound("no such delegation, and nothing is delegated from this id")
        plan = await plan_of(conn, jti, rows, page=link("/delegations/{jti}", jti=jti), form=form)
        sides = {aid for row in rows for aid in (row.delegator, row.delegatee)}
        names = await names_of(conn, sides | (set() if token is None else {token.issuer, token.subject}))
    grants = None if token is None else strings(token.grants)
    tree = _Tree(rows, rt.clock())
    top = tree.below(jti) if own is None else [own]
    return DelegationPage(
        names=names,
        token=token,
        parent=None if own is None else parent,
        roots=tree.nodes(top, grants, parent if token is not None and token.revoked else None),
        plan=plan,
    )


PAGES = (
    screen("/delegations/{jti}", show_or_revoke, scope=Scope.EVENTS_READ),
    action("/delegations/{jti}/revoke", show_or_revoke, scope=Scope.REVOCATION_WRITE, fresh_on="/delegations/{jti}"),
)
