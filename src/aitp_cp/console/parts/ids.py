"""Identifiers: shortened in the middle, whole on hover, copied with one click; agents with a figure of their own."""

import hashlib
from functools import lru_cache

from markupsafe import Markup

from aitp_cp.console.parts.link import link
from aitp_cp.console.parts.text import MAX_SHOWN, NONE, visible
from aitp_cp_client.wire.visible import escaped

HEAD, TAIL = 4, 4
AID_PREFIX = "aid:pubkey:"
_COPY = Markup('<button type="button" class="copy" data-copy="{}" aria-label="copy {}">⧉</button>')


def aid(value: str | None, name: str | None = None, *, linked: bool = True) -> Markup:
    """Return an agent: its figure, the name it claims, and its short AID, linked to its page."""
    if not value:
        return NONE
    claimed = Markup("<bdi>“{}”</bdi> ").format(visible(name[:MAX_SHOWN])) if name else Markup("")
    inner = Markup('{}<code title="{}">{}</code>').format(claimed, escaped(value), visible(short(value)))
    if linked:
        inner = Markup('<a href="{}">{}</a>').format(link("/agents/{aid}", aid=value), inner)
    return Markup('<span class="aid">{}{}{}</span>').format(figure(value), inner, _COPY.format(value, "the AID"))


def ident(value: object, path: str | None = None) -> Markup:
    """Return an id that is not an agent's; `path`, such as `/tokens/{id}`, links to its page."""
    if value is None or value == "":
        return NONE
    whole = str(value)
    inner = Markup('<code title="{}">{}</code>').format(escaped(whole), visible(short(whole)))
    if path is not None:
        inner = Markup('<a href="{}">{}</a>').format(link(path, id=whole), inner)
    return Markup('<span class="ident">{}{}</span>').format(inner, _COPY.format(whole, "the id"))


def short(value: str) -> str:
    """Return the first and last characters of an id; what all AIDs begin with is left out."""
    bare = value.removeprefix(AID_PREFIX)
    return bare if len(bare) <= HEAD + TAIL + 3 else f"{bare[:HEAD]}…{bare[-TAIL:]}"


@lru_cache(maxsize=4096)
def figure(value: str) -> Markup:
    """Return a symmetric figure of 5×5 fields that depends on the whole id."""
    digest = hashlib.sha256(value.encode(errors="replace")).digest()
    bits = int.from_bytes(digest[:2], "big")
    fields = ((column, row) for row in range(5) for column in range(3) if bits >> (row * 3 + column) & 1)
    columns = {0: (0, 4), 1: (1, 3), 2: (2,)}
    shape = "".join(f"M{x} {row}h1v1h-1z" for column, row in fields for x in columns[column])
    return Markup(
        '<svg class="figure" viewBox="0 0 5 5" aria-hidden="true"><path fill="hsl({} 55% 50%)" d="{}"/></svg>'
    ).format(digest[2] * 360 // 256, shape)
