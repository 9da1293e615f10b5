"""Tables and their pages."""

import re
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import TypedDict, TypeVar, Unpack

from markupsafe import Markup, escape

CELL = re.compile(r"<td(?=[ >])(?! colspan)")

T = TypeVar("T")


class Look(TypedDict, total=False):
    """`id` of the part that scrolls, `list` by default; `wrap` for a table of long text; `last`: rows after all others.

    `empty` is the sentence in place of a table without rows.
    """

    id: str
    wrap: bool
    last: Markup
    empty: str


def table(rows: Sequence[T], label: str, *heads: str, caller: Callable[[T], Markup], **look: Unpack[Look]) -> Markup:
    """Return a table that scrolls in itself, with what the block of the call writes for each row.

    Below 700 px each cell shows the head of its column: `data-head` of each `td` that does not span columns.
    """
    marks = [f'<td data-head="{escape(head)}"' for head in heads]
    body = Markup("".join(_with_heads(caller(row), marks) for row in rows)) + look.get("last", Markup(""))
    empty = look.get("empty")
    if not body.strip():
        return Markup('<p class="empty">{}</p>').format(empty) if empty else Markup("")
    names = Markup("").join(Markup('<th scope="col">{}</th>').format(head) for head in heads)
    return Markup(
        '<div class="scroll" id="{}" tabindex="0" role="region" aria-label="{}"><table{}>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(look.get("id", "list"), label, Markup(' class="wrap"') if look.get("wrap") else "", names, body)


def _with_heads(row: Markup, marks: Sequence[str]) -> str:
    """Return a row whose cells name their columns; only templates write `<td`, all else in it is escaped."""
    start, *cells = CELL.split(row)
    return start + "".join(chain.from_iterable(zip(chain(marks, repeat("<td")), cells, strict=False)))


def pager(next_url: str | None, shown: int) -> Markup:
    """Return what stands under a list: how many rows, and the way to older ones."""
    if not shown and not next_url:  # the page says that there is nothing
        return Markup("")
    more = Markup('<a rel="next" href="{}">next →</a>').format(next_url) if next_url else Markup("<span>the end</span>")
    return Markup('<p class="pager"><span>{} shown</span> {}</p>').format(f"{shown:,}", more)
