"""Tables and their pages."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup


def head(*names: str) -> Markup:
    """Return the head of a table. Below 700 px its cells show `data-head` instead, which each `td` repeats."""
    cells = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in names)
    return Markup("<thead><tr>{}</tr></thead>").format(cells)


def table(names: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str, empty: str = "none") -> Markup:
    """Return a whole table of cells that are parts or plain text."""
    body = Markup("").join(_row(names, row) for row in rows)
    if not body:
        return Markup('<p class="empty">{}</p>').format(empty)
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{0}"><table>'
        '<caption class="quiet">{0}</caption>{1}<tbody>{2}</tbody></table></div>'
    ).format(caption, head(*names), body)


def _row(names: Sequence[str], row: Sequence[object]) -> Markup:
    cells = (Markup('<td data-head="{}">{}</td>').format(name, cell) for name, cell in zip(names, row, strict=True))
    return Markup("<tr>{}</tr>").format(Markup("").join(cells))


def pager(next_url: str | None, shown: int, of: str = "") -> Markup:
    """Return what stands under a list: how many rows, and the way to older ones."""
    if not shown and not next_url:  # the page says that there is nothing
        return Markup("")
    more = Markup('<a rel="next" href="{}">next →</a>').format(next_url) if next_url else Markup("<span>the end</span>")
    total = f" of {of}" if of else ""
    return Markup('<p class="pager"><span>{} shown{}</span> {}</p>').format(f"{shown:,}", total, more)
