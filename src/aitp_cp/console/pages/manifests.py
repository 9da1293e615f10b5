"""What an agent changed from one manifest to another, with both as they were signed."""

import re

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.page import render, screen
from aitp_cp.db import Connection
from aitp_cp.errors import NotFound
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry import history
from aitp_cp.registry.manifest_diff import ManifestDiff, diff
from aitp_cp.registry.store import names_of
from aitp_cp.runtime import Runtime
from aitp_cp.web.export import attachment
from aitp_cp.web.path import path_aid
from aitp_cp.web.responses import json_bytes

PAIR = re.compile(r"([1-9]\d{0,8})?\.\.([1-9]\d{0,8})", re.ASCII)


class DiffView(msgspec.Struct, frozen=True):
    """Numbers of manifests, and both as they were signed; `before` is None for the first version that was seen."""

    aid: str
    name: str | None
    before: int | None
    after: int
    change: ManifestDiff
    old: str | None
    new: str


async def compare(rt: Runtime, request: Request) -> Response:
    aid, numbers = path_aid(request), PAIR.fullmatch(request.path_params["pair"])
    if numbers is None:
        raise NotFound("two numbers of manifests are needed, such as 3..4")
    before, after = int(numbers[1]) if numbers[1] else None, int(numbers[2])

    async def read(conn: Connection) -> tuple[str | None, str, str | None]:
        old, new = await history.pair(conn, aid, before or after, after)
        return old if before else None, new, (await names_of(conn, [aid])).get(aid)

    old, new, name = await rt.db.read(read)
    view = DiffView(aid, name, before, after, diff(old or "", new), old, new)
    return await render(rt, request, "manifests.html", view, title="What changed" if before else "Manifest")


async def raw(rt: Runtime, request: Request) -> Response:
    """The bytes as the agent signed them, as a file."""
    aid, sha256 = path_aid(request), request.path_params["sha256"]
    text = await rt.db.read(lambda conn: history.raw(conn, aid, sha256))
    return json_bytes(text, headers={"Content-Disposition": attachment(f"manifest-{sha256[:12]}.json")})


PAGES = (
    screen("/agents/{aid}/manifests/{pair}", compare, scope=Scope.AGENTS_READ),
    screen("/agents/{aid}/manifests/{sha256}/raw", raw, scope=Scope.AGENTS_READ),
)
