"""Views: pages of the console with their filters, which a person keeps under a name."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.accounts.model import MAX_SUBJECT
from aitp_cp.console import forms
from aitp_cp.console.forms import Form
from aitp_cp.console.page import action, render, screen, see_other
from aitp_cp.console.parts.link import link, own
from aitp_cp.errors import BadRequest
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of

MAX_VIEWS = 100  # of one person
MAX_NAME = 100
MAX_URL = 2048

LIST = "SELECT name, url FROM console_views WHERE subject = $1 ORDER BY name LIMIT $2"
# One of the same name is replaced, whatever their number.
SAVE = """
INSERT INTO console_views (subject, name, url, created_at)
SELECT $1::text, $2::text, $3, $4
WHERE (SELECT count(*) FROM console_views WHERE subject = $1::text AND name <> $2::text) < $5
ON CONFLICT (subject, name) DO UPDATE SET url = excluded.url, created_at = excluded.created_at
RETURNING name
"""
FORGET = "DELETE FROM console_views WHERE subject = $1 AND name = $2"


class SavedView(msgspec.Struct, frozen=True):
    name: str
    url: str


class ViewsView(msgspec.Struct, frozen=True):
    """`url` is the page to save, if this one was reached from it."""

    rows: list[SavedView]
    url: str | None


async def show(rt: Runtime, request: Request) -> Response:
    refused = forms.sent(request)
    url = request.query_params.get("url", "") if refused is None else refused.get("url")
    async with rt.db.connection() as conn:
        rows = [SavedView(**row) for row in await conn.fetch(LIST, _subject(request), MAX_VIEWS)]
    view = ViewsView(rows, url if _is_ours(url) else None)
    return await render(rt, request, "views.html", view, title="Saved views")


async def save(rt: Runtime, request: Request, form: Form) -> Response:
    name, url = form.get("name"), form.get("url")
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise BadRequest(f"a view has a name of at most {MAX_NAME} visible characters")
    if not _is_ours(url):
        raise BadRequest("only pages of the console can be saved")
    async with rt.db.transaction() as conn:
        saved = await conn.fetchval(SAVE, _subject(request), name, url, rt.clock(), MAX_VIEWS)
        if saved is None:
            raise BadRequest(f"you have {MAX_VIEWS} views already: forget one first")
    return see_other(link("/views"))


async def forget(rt: Runtime, request: Request, form: Form) -> Response:
    async with rt.db.transaction() as conn:
        await conn.execute(FORGET, _subject(request), form.get("name"))
    return see_other(link("/views"))


def _subject(request: Request) -> str:
    return context_of(request).actor[:MAX_SUBJECT]


def _is_ours(url: str) -> bool:
    return 0 < len(url) <= MAX_URL and own(url) == url


PAGES = (
    screen("/views", show, scope=None),
    action("/views", save, scope=None),
    action("/views/forget", forget, scope=None),
)
