"""`/console/trust`: anchors and pinned keys. Each change needs a fresh sign-in (step-up)."""

from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.console.forms import Form
from aitp_cp.console.page import Region, action, region, render, screen, see_other
from aitp_cp.console.parts.link import link
from aitp_cp.console.shell import namespace_of
from aitp_cp.db.keyset import Window
from aitp_cp.errors import BodyInvalid
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.truststore import pinned_keys, service, store
from aitp_cp.truststore.model import (
    ANCHOR_ORDER,
    MAX_LABEL,
    PINNED_ORDER,
    AnchorPatch,
    AnchorQuery,
    AnchorView,
    NewAnchor,
    NewPinnedKey,
    PinnedKeyView,
)
from aitp_cp.truststore.refresher import JwksRefresher
from aitp_cp.web.body import convert
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import read_query
from aitp_cp_client.wire import aid as aids

T = TypeVar("T")


class TrustQuery(AnchorQuery, frozen=True, kw_only=True, rename="camel"):
    """The page of anchors; `pinsBefore` is that of the pinned keys."""

    pins_before: Annotated[str | None, Meta(description="the cursor of the pinned keys")] = None


class AnchorRow(msgspec.Struct, frozen=True):
    """`due_at` is when its key set is fetched next, None for at once."""

    anchor: AnchorView
    due_at: str | None


class Listed(msgspec.Struct, Generic[T], frozen=True):
    rows: list[T]
    next_url: str | None


class TrustView(msgspec.Struct, frozen=True):
    """`fetches` tells whether this deployment keeps key sets fresh."""

    anchors: Region[Listed[AnchorRow]]
    pins: Region[Listed[PinnedKeyView]]
    namespace: str
    fetches: bool
    max_label: int = MAX_LABEL


async def show(rt: Runtime, request: Request) -> Response:
    query = read_query(request, TrustQuery)
    query = msgspec.structs.replace(query, namespace=query.namespace or namespace_of(request))
    view = TrustView(
        anchors=await region(_anchors(rt, query)),
        pins=await region(_pins(rt, query)),
        namespace=query.namespace or "",
        fetches=rt.settings.jwks_refresh_enabled,
    )
    return await render(rt, request, "trust.html", view, title="Trust store")


async def _anchors(rt: Runtime, query: TrustQuery) -> Listed[AnchorRow]:
    async with rt.db.connection() as conn:
        page = await store.list_anchors(conn, query.namespace, query.window(ANCHOR_ORDER))
        due = await store.due_times(conn, [anchor.id for anchor in page.trust_anchors])
    more = None if page.next_before is UNSET else link("/trust", namespace=query.namespace, before=page.next_before)
    return Listed([AnchorRow(anchor, due.get(anchor.id)) for anchor in page.trust_anchors], more)


async def _pins(rt: Runtime, query: TrustQuery) -> Listed[PinnedKeyView]:
    before = None if query.pins_before is None else PINNED_ORDER.read(query.pins_before)
    async with rt.db.connection() as conn:
        page = await store.list_pinned(conn, query.namespace, Window(query.limit, before=before))
    next = page.next_before
    more = None if next is UNSET else link("/trust", namespace=query.namespace, pinsBefore=next)
    return Listed(page.pinned_keys, more)


async def add_anchor(rt: Runtime, request: Request, form: Form) -> Response:
    members = {"issuerUrl": form.get("issuerUrl"), **form.filled("namespace", "jwksUrl", "label")}
    async with rt.db.transaction() as conn:
        await service.create(conn, convert(members, NewAnchor), actor_of(rt, request), rt.clock())
    rt.get(JwksRefresher).wake()
    return see_other(link("/trust"))


async def edit_anchor(rt: Runtime, request: Request, form: Form) -> Response:
    id = path_uuid(request)
    patch = {
        "issuerUrl": form.get("issuerUrl"),
        "namespace": form.get("namespace"),
        "jwksUrl": form.get("jwksUrl") or None,
        "label": form.get("label") or None,
    }
    async with rt.db.transaction() as conn:
        await service.update(conn, id, convert(patch, AnchorPatch), actor_of(rt, request), rt.clock())
    rt.get(JwksRefresher).wake()
    return see_other(link("/trust"))


async def remove_anchor(rt: Runtime, request: Request, form: Form) -> Response:
    id = path_uuid(request)
    async with rt.db.transaction() as conn:
        await service.delete(conn, id, actor_of(rt, request), rt.clock())
    return see_other(link("/trust"))


async def pin(rt: Runtime, request: Request, form: Form) -> Response:
    await pin_key(rt, request, form, form.get("aid"))
    return see_other(link("/trust"))


async def pin_key(rt: Runtime, request: Request, form: Form, text: str) -> None:
    """Pin the key of an AID, which is in the AID itself; raises `BodyInvalid` for a text that is none."""
    aid = aids.recognise(text)
    if aid is None:
        raise BodyInvalid("aid is not an AID")
    members = {"aid": aid, "pubkey": aids.public_key(aid), **form.filled("namespace", "label", "expiresAt")}
    key = pinned_keys.read_key(convert(members, NewPinnedKey))
    async with rt.db.transaction() as conn:
        await pinned_keys.upsert(conn, key, actor_of(rt, request), rt.clock())


async def unpin(rt: Runtime, request: Request, form: Form) -> Response:
    async with rt.db.transaction() as conn:
        actor = actor_of(rt, request)
        await pinned_keys.delete(conn, form.get("namespace"), form.get("aid"), actor, rt.clock())
    return see_other(link("/trust"))


PAGES = (
    screen("/trust", show, scope=Scope.TRUST_READ, nav="Trust", query=TrustQuery),
    action("/trust/anchors", add_anchor, scope=Scope.TRUST_WRITE, fresh_on="/trust"),
    action("/trust/anchors/{id}/edit", edit_anchor, scope=Scope.TRUST_WRITE, fresh_on="/trust"),
    action("/trust/anchors/{id}/remove", remove_anchor, scope=Scope.TRUST_WRITE, fresh_on="/trust"),
    action("/trust/pins", pin, scope=Scope.TRUST_WRITE, fresh_on="/trust"),
    action("/trust/pins/remove", unpin, scope=Scope.TRUST_WRITE, fresh_on="/trust"),
)
