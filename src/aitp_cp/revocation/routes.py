"""The deny list over HTTP (contract, section 11)."""

from contextlib import suppress
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.errors import AgentTokenInvalid, AppError, JtiInvalid, RevocationUnavailable
from aitp_cp.idempotency.edge import refuse_once, respond
from aitp_cp.idempotency.service import check_key, once_for
from aitp_cp.protocol.agent_token import AgentTokens
from aitp_cp.protocol.scopes import Scope
from aitp_cp.revocation import service
from aitp_cp.revocation.holders import NONE, Holders
from aitp_cp.revocation.jti import read_jti
from aitp_cp.revocation.model import (
    ORDER,
    BulkRevocation,
    NewRevocation,
    RevocationPage,
    RevocationQuery,
    RevocationView,
    Submission,
)
from aitp_cp.revocation.published import PublishedList
from aitp_cp.revocation.tags import matches
from aitp_cp.revocation.writer import Revoker
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import decode, read_body
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import Bucket, Endpoint, Gate, Link, Param, links
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_response

ENDPOINT = "revocation.entries"


async def add_entry(rt: Runtime, request: Request) -> Response:
    body = await read_body(request)
    key = check_key(request.headers.get("idempotency-key"))
    actor = actor_of(rt, request)
    try:
        revocation = service.read(decode(body, NewRevocation), actor, rt.clock())
    except AppError as refused:
        return await refuse_once(rt, request, endpoint=ENDPOINT, caller=actor.id, body=body, refused=refused)
    once = once_for(ENDPOINT, actor.id, key, body)
    return respond(request, await rt.get(Revoker).submit(Submission(revocation, once)))


async def list_entries(rt: Runtime, request: Request) -> Response:
    query = read_query(request, RevocationQuery)
    jti = None if query.jti is None else read_jti(query.jti)
    async with rt.db.connection() as conn:
        page = await service.page(conn, jti, query.window(ORDER))
    return json_response(page)


async def signed_list(rt: Runtime, request: Request) -> Response:
    published = rt.get(PublishedList)
    signed = await published.get()
    conditions = request.headers.getlist("if-none-match")
    is_held = matches(conditions, signed.etag)
    _note(rt, request, published.proven(conditions), NONE if is_held else signed.version)
    if is_held:
        return Response(status_code=304, headers={"Cache-Control": published.cached, "ETag": signed.etag})
    return published.response


def _note(rt: Runtime, request: Request, holds: int, sent: int) -> None:
    """Note what the client has shown to hold, by its address and, with an agent token, by its AID.

    A token that is not valid proves nothing and refuses nothing: the list is for everybody.
    """
    holders = rt.get(Holders)
    holders.note("address", context_of(request).client_ip, holds=holds, sent=sent)
    if (token := request.headers.get("x-aitp-agent-token")) is not None:
        with suppress(AgentTokenInvalid):
            agent = rt.get(AgentTokens).read_token(token, rt.clock()).sub
            holders.note("agent", agent, holds=holds, sent=sent)


endpoint = partial(Endpoint, tag="revocation")

ENDPOINTS = (
    endpoint(
        "POST /api/revocation/entries",
        add_entry,
        "Revoke tokens and everything delegated from them; the first revocation of a token stands",
        scope=Scope.REVOCATION_WRITE,
        idempotent=True,
        body=NewRevocation,
        responses={201: (RevocationView, BulkRevocation)},
        errors=(JtiInvalid,),
        leads_to=(
            *links("GET /api/revocation/entries", jti="$response.body#/jti"),
            *links("GET /api/delegations", rootJti="$response.body#/jti"),
            *links("GET /.well-known/aitp-revocation-list"),
        ),
    ),
    endpoint(
        "GET /api/revocation/entries",
        list_entries,
        "Revoked tokens, newest first",
        scope=Scope.REVOCATION_READ,
        query=RevocationQuery,
        responses={200: RevocationPage},
        errors=(JtiInvalid,),
        leads_to=(
            *links("GET /api/revocation/entries", jti="$response.body#/entries/0/jti"),
            *links("GET /api/delegations", rootJti="$response.body#/entries/0/jti"),
        ),
    ),
    *(
        endpoint(
            f"GET {path}",
            signed_list,
            "The signed revocation list",
            gate=Gate.OPEN,
            bucket=bucket,
            params=(
                Param("If-None-Match", "entity tags that need no body", {"type": "string"}, place="header"),
                Param(
                    "X-Aitp-Agent-Token",
                    "an agent token; with one ETag of this list in If-None-Match, its agent is known to hold that list",
                    {"type": "string"},
                    place="header",
                ),
            ),
            responses={200: dict, 304: None},
            errors=(RevocationUnavailable,),
            leads_to=(Link(f"GET {path}", {"If-None-Match": "$response.header.ETag"}),),
        )
        for path, bucket in (
            ("/.well-known/aitp-revocation-list", Bucket.EXEMPT),
            ("/api/well-known/aitp-revocation-list", Bucket.PUBLIC_IP),
        )
    ),
)
