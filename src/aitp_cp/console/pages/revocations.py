"""The deny list, and the state of the signed list that peers fetch."""

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.page import Region, onward, region, render, screen, see_other, wants
from aitp_cp.console.parts.link import link
from aitp_cp.protocol import revocation_list
from aitp_cp.protocol.revocation_list import ListFacts
from aitp_cp.protocol.scopes import Scope
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp.revocation import service
from aitp_cp.revocation.jti import read_jti
from aitp_cp.revocation.model import ORDER, RevocationQuery, RevocationView, Signed
from aitp_cp.revocation.published import PublishedList
from aitp_cp.runtime import Runtime
from aitp_cp.tcts import queries
from aitp_cp.web.export import attachment
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_bytes
from aitp_cp_client.wire.verification import Unverified, verify_revocation_list

MAX_CHECKED_BYTES = 4 * 1024 * 1024  # 40,000 entries: 0.2 s, in a thread


class SignedState(msgspec.Struct, frozen=True):
    """`check` is what the SDK says of the signature just now, None for a list too long to check on a page."""

    list: Signed
    facts: ListFacts
    age_secs: int
    check: str | None


class EntriesView(msgspec.Struct, frozen=True):
    signed: Region[SignedState]
    rows: list[RevocationView]
    jti: str
    next_url: str | None
    newest: bool


async def list_entries(rt: Runtime, request: Request) -> Response:
    query = read_query(request, RevocationQuery)
    jti = None if query.jti is None else read_jti(query.jti)
    async with rt.db.connection() as conn:
        page = await service.page(conn, jti, query.window(ORDER))
    signed = await region(_state(rt)) if wants(request, "signed") else Region[SignedState](None)
    view = EntriesView(signed, page.entries, query.jti or "", onward(request, page.next_before), query.before is None)
    return await render(rt, request, "revocations.html", view, title="Revocations")


async def plan(rt: Runtime, request: Request) -> Response:
    """Lead to the page on which an id is revoked, with everything that hangs below it."""
    jti = read_uuid(request.query_params.get("jti", "").strip())
    if jti is None:
        return see_other(link("/revocations"))
    async with rt.db.connection() as conn:
        is_delegation = await queries.delegator(conn, jti) is not None
    return see_other(link("/delegations/{jti}" if is_delegation else "/tokens/{jti}", jti=jti))


async def download(rt: Runtime, request: Request) -> Response:
    signed = await rt.get(PublishedList).get()
    return json_bytes(signed.body, headers={"Content-Disposition": attachment("aitp-revocation-list.json")})


async def _state(rt: Runtime) -> SignedState:
    published = rt.get(PublishedList)
    signed = await published.get()
    facts = await asyncio.to_thread(revocation_list.read, signed.body)
    return SignedState(signed, facts, int(published.standing().age_secs), await asyncio.to_thread(_check, rt, signed))


def _check(rt: Runtime, signed: Signed) -> str | None:
    if len(signed.body) > MAX_CHECKED_BYTES:
        return None
    try:
        verify_revocation_list(signed.body, rt.signer.aid)
    except Unverified as refused:
        return str(refused)
    return "verified"


PAGES = (
    screen("/revocations", list_entries, scope=Scope.REVOCATION_READ, nav="Revocations", query=RevocationQuery),
    screen("/revocations/plan", plan, scope=Scope.REVOCATION_READ),
    screen("/revocations/list", download, scope=Scope.REVOCATION_READ),
)
