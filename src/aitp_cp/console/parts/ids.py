"""Identifiers: shortened in the middle, whole on hover, copied with one click; agents with a figure of their own.

Lists hold thousands of them, so they are put together from escaped pieces: `Markup.format` takes ten times as long.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

from markupsafe import Markup, escape

from aitp_cp.console.parts.link import ROOT, link
from aitp_cp.console.parts.text import MAX_SHOWN, NONE, copy_button, text, visible
from aitp_cp_client.wire.visible import all_visible, escaped

HEAD, TAIL = 4, 4
AID_PREFIX = "aid:pubkey:"


def aid(value: str | None, name: str | Mapping[str, str] | None = None, *, linked: bool = True) -> Markup:
    """Return an agent: its figure, the name it claims, and its short AID, linked to its page.

    `name` may be those of all agents of a page.
    """
    if not value:
        return NONE
    return _aid(value, name.get(value) if isinstance(name, Mapping) else name, linked=linked)


@lru_cache(maxsize=4096)
def _aid(value: str, name: str | None, *, linked: bool) -> Markup:
    claimed = f"<bdi>“{visible(name[:MAX_SHOWN])}”</bdi> " if name else ""
    inner = f'{claimed}<code title="{escape(escaped(value))}">{visible(short(value))}</code>'
    if linked:
        inner = f'<a href="{ROOT}/agents/{quote(value, safe="", errors="replace")}">{inner}</a>'
    return Markup(f'<span class="aid">{figure(value)}{inner}{_copy(value, "the AID")}</span>')


def target(value: str | None, limit: int = 40) -> Markup:
    """Return what an audited action was done to: an agent, or a text."""
    return aid(value) if value and value.startswith("aid:") else text(value, limit)


def ident(value: object, path: str | None = None) -> Markup:
    """Return an id that is not an agent's; `path`, such as `/tokens/{id}`, links to its page."""
    if value is None or value == "":
        return NONE
    whole = str(value)
    inner = f'<code title="{escape(escaped(whole))}">{visible(short(whole))}</code>'
    if path is not None:
        inner = f'<a href="{escape(link(path, id=whole))}">{inner}</a>'
    return Markup(f'<span class="ident">{inner}{_copy(whole, "the id")}</span>')


def _copy(value: str, what: str) -> str:
    """Return the button beside an id; the script finds the id in the title where that is exact."""
    return copy_button("" if all_visible(value) else value, what)


def short(value: str) -> str:
    """Return the first and last characters of an id; what all AIDs begin with is left out."""
    bare = value.removeprefix(AID_PREFIX)
    return bare if len(bare) <= HEAD + TAIL + 3 else f"{bare[:HEAD]}…{bare[-TAIL:]}"


def key(value: object) -> str:
    """Return a name for a row in the page, whatever characters the id of the row holds."""
    return "k" + hashlib.sha256(str(value).encode(errors="replace")).hexdigest()[:12]


@lru_cache(maxsize=4096)
def figure(value: str) -> Markup:
    """Return a symmetric figure of five by five fields that depends on the whole id."""
    digest = hashlib.sha256(value.encode(errors="replace")).digest()
    bits = int.from_bytes(digest[:2], "big")
    fields = ((column, row) for row in range(5) for column in range(3) if bits >> (row * 3 + column) & 1)
    columns = {0: (0, 4), 1: (1, 3), 2: (2,)}
    shape = "".join(f"M{x} {row}h1v1h-1z" for column, row in fields for x in columns[column])
    drawn = f'<path fill="hsl({digest[2] * 360 // 256} 55% 50%)" d="{shape}"/>'
    return Markup(f'<svg class="figure" viewBox="0 0 5 5" aria-hidden="true">{drawn}</svg>')
