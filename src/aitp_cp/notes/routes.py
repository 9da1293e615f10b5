"""What operators note about agents, over HTTP (contract, section 22)."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.notes import service, store
from aitp_cp.notes.model import ORDER, NewNotes, Notes, NotesList, NotesQuery
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import decode, read_body
from aitp_cp.web.endpoint import Endpoint, in_path, links
from aitp_cp.web.path import path_aid
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_response, no_content

AID = in_path("aid", "the agent's AID, percent-encoded; it need not be registered")
NOTES = ("GET /api/registry/agents/{aid}/notes", "DELETE /api/registry/agents/{aid}/notes")


async def list_notes(rt: Runtime, request: Request) -> Response:
    query = read_query(request, NotesQuery)
    async with rt.db.connection() as conn:
        return json_response(await store.page(conn, query, query.window(ORDER)))


async def get_notes(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(await service.get(conn, path_aid(request)))


async def put_notes(rt: Runtime, request: Request) -> Response:
    body = decode(await read_body(request), NewNotes)
    async with rt.db.transaction() as conn:
        notes = await service.put(conn, path_aid(request), body, actor_of(rt, request), rt.clock())
    return json_response(notes)


async def delete_notes(rt: Runtime, request: Request) -> Response:
    async with rt.db.transaction() as conn:
        await service.delete(conn, path_aid(request), actor_of(rt, request), rt.clock())
    return no_content()


endpoint = partial(Endpoint, tag="registry", params=(AID,))

ENDPOINTS = (
    endpoint(
        "GET /api/registry/notes",
        list_notes,
        "What operators note about agents, the newest change first",
        scope=Scope.AGENTS_READ,
        query=NotesQuery,
        responses={200: NotesList},
        leads_to=links(*NOTES, aid="$response.body#/notes/0/aid"),
    ),
    endpoint(
        "GET /api/registry/agents/{aid}/notes",
        get_notes,
        "Owner, labels and remark that operators gave an agent",
        scope=Scope.AGENTS_READ,
        responses={200: Notes},
    ),
    endpoint(
        "PUT /api/registry/agents/{aid}/notes",
        put_notes,
        "Replace what is noted about an agent",
        scope=Scope.AGENTS_WRITE,
        body=NewNotes,
        responses={200: Notes},
        leads_to=links(*NOTES, "GET /api/registry/notes", aid="$response.body#/aid"),
    ),
    endpoint(
        "DELETE /api/registry/agents/{aid}/notes",
        delete_notes,
        "Forget what is noted about an agent",
        scope=Scope.AGENTS_WRITE,
        responses={204: None},
    ),
)
