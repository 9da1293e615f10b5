"""Text that somebody else wrote, with everything invisible in it made visible."""

import contextlib
import shlex
import unicodedata
from collections.abc import Sequence
from typing import Any
from urllib import parse as percent

import msgspec
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from aitp_cp.console.parts.link import written
from aitp_cp_client.wire.visible import all_visible, pieces

MAX_SHOWN = 80
# Parameters of pages that the API does not have; two of them because discovery does not show what operators note.
OF_PAGES = frozenset({"expires", "tab", "queued", "more", "rest", "everything", "delegations", "owner", "unowned"})
MAX_JSON = 256 * 1024  # characters of a stored document on its page
CURL = 'curl -H "Authorization: Bearer $AITP_CP_API_KEY"'  # the shell puts the key in
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


def cli(command: str, /, *values: object, **options: object) -> Markup:
    """Return a command line that does the same as the page; `values` replace each `{}` and are quoted for a shell.

    Of the options those are written that say something; what is True is a flag.
    """
    named = {f"--{name.replace('_', '-')}": value for name, value in options.items() if value not in (None, "", False)}
    flags = [name if value is True else f"{name}={value}" for name, value in named.items()]
    line = command.format(*(shlex.quote(str(value)) for value in values))
    return _line("as CLI", " ".join([line, *map(shlex.quote, flags)]))


@pass_context
def curl(context: Context, path: str, /, *values: object, **query: Any) -> Markup:
    """Return the request that shows the same as the page; `values` replace each `{}` of its path.

    It has the parameters of the page, then those of `query`.
    """
    parameters = {name: value for name, value in context["frame"].query.items() if name not in OF_PAGES} | written(
        query
    )
    text = percent.urlencode(parameters, errors="replace")
    url = _url(context, path, values)
    return _line("as curl", f"{CURL} {shlex.quote(f'{url}?{text}' if text else url)}")


@pass_context
def act(context: Context, name: str, request: str, /, *values: object, **members: object) -> Markup:
    """Return the request that does what a form does: `act("revoke", "DELETE /api/keys/{}", id)`, with its body."""
    method, _, path = request.partition(" ")
    body = f" -H 'Content-Type: application/json' -d {shlex.quote(msgspec.json.encode(members).decode())}"
    start = f"{CURL} -X {method}{body if members else ''}"
    return _line(f"as curl: {name}", f"{start} {shlex.quote(_url(context, path, values))}")


def _url(context: Context, path: str, values: Sequence[object]) -> str:
    base: str = context["frame"].base_url
    return base + path.format(*(percent.quote(str(value), safe=":", errors="replace") for value in values))


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
