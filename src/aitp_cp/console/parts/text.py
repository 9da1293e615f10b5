"""Text that somebody else wrote, with everything invisible in it made visible."""

import contextlib
import shlex
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib import parse as percent

import msgspec
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from aitp_cp.console.parts.link import written
from aitp_cp_client.wire.visible import all_visible, pieces

MAX_SHOWN = 80
OF_PAGES = frozenset({"expires", "format", "tab", "queued", "more", "rest"})  # parameters that no list of the API has
MAX_JSON = 256 * 1024  # characters of a stored document on its page
NONE = Markup('<span class="none">–</span>')


def text(value: object, limit: int = MAX_SHOWN) -> Markup:
    """Return a text as it may be shown: at most `limit` characters, escaped, apart from the direction around it."""
    if value is None or value == "":
        return NONE
    written = bytes(value).decode(errors="replace") if isinstance(value, msgspec.Raw) else str(value)
    cut = written[:limit]
    more = f'<span class="more" title="{len(written)} characters">…</span>' if cut != written else ""
    return Markup(f"<bdi>{visible(cut)}</bdi>{more}")


def visible(written: str) -> Markup:
    """Return the text escaped, each invisible character as a chip with its code point."""
    if all_visible(written):
        return escape(written)
    return Markup(
        "".join(
            f'<span class="unseen">⟨{piece.text}⟩</span>' if piece.unseen else escape(piece.text)
            for piece in pieces(written)
        )
    )


def strings(raw: msgspec.Raw) -> list[str]:
    """Return the members of a stored JSON array as text; none of anything else."""
    values = msgspec.json.decode(raw)
    return [str(value) for value in values] if isinstance(values, list) else []


def json_text(value: msgspec.Raw | str) -> Markup:
    """Return JSON text as a block, indented where it is valid; line ends stay what they are."""
    raw = value.encode(errors="replace") if isinstance(value, str) else bytes(value)
    with contextlib.suppress(msgspec.MsgspecError):
        raw = msgspec.json.format(raw, indent=2)
    lines = raw.decode(errors="replace")[:MAX_JSON].split("\n")
    return Markup('<pre class="json" tabindex="0">{}</pre>').format(Markup("\n").join(map(visible, lines)))


def cli(command: str, *values: object) -> Markup:
    """Return a command line that does the same as the page; `values` replace each `{}` and are quoted for a shell."""
    return _line("as CLI", command.format(*(shlex.quote(str(value)) for value in values)) if values else command)


@pass_context
def curl(
    context: Context, path: str, *values: object, body: Mapping[str, object] | None = None, **query: Any
) -> Markup:
    """Return the request that does the same as the page; `values` replace each `{}` of its path.

    One without a body has the parameters of the page, then those of `query`. The shell puts the key in.
    """
    frame = context["frame"]
    url = frame.base_url + path.format(*(percent.quote(str(value), safe=":", errors="replace") for value in values))
    start = 'curl -H "Authorization: Bearer $AITP_CP_API_KEY"'
    if body is not None:
        text = msgspec.json.encode(body).decode()
        sent = f"-H 'Content-Type: application/json' -d {shlex.quote(text)}" if body else "-X POST"
        return _line("as curl", f"{start} {sent} {shlex.quote(url)}")
    asked = {name: value for name, value in frame.query.items() if name not in OF_PAGES} | written(query)
    text = percent.urlencode(asked, errors="replace")
    return _line("as curl", f"{start} {shlex.quote(f'{url}?{text}' if text else url)}")


def _line(name: str, line: str) -> Markup:
    return Markup('<details class="cli"><summary>{}</summary><code>{}</code>{}</details>').format(
        name, visible(line), copy_button(line, "the command")
    )


def copy_button(value: str, what: str) -> Markup:
    """Return what copies the text; nothing for control characters: pasted into a terminal, a line end runs it."""
    if any(unicodedata.category(character) == "Cc" for character in value):
        return Markup("")
    # A list draws thousands of them: `Markup.format` takes ten times as long.
    return Markup(f'<button type="button" class="copy" data-copy="{escape(value)}" aria-label="copy {what}"></button>')


def count(value: Any) -> str:
    """Return a number with its thousands apart."""
    return "–" if value is None else f"{value:,}"
