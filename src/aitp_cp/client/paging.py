"""From pages to rows."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

Row = TypeVar("Row")


async def rows(
    fetch: Callable[[int, int], Awaitable[Sequence[Row]]], key: Callable[[Row], object], size: int = 500
) -> AsyncIterator[Row]:
    """All rows, from `fetch(limit, offset)` to the last page: one with no row that is new.

    A page may be shorter than `limit` and not be the last, for it also ends by size. The server keeps no snapshot
    between pages. What new rows push onto the next page is not given twice; a row that is deleted meanwhile can hide
    another one.
    """
    offset = 0
    before: set[object] = set()
    while True:
        page = await fetch(size, offset)
        fresh = [row for row in page if key(row) not in before]
        if not fresh:
            return
        for row in fresh:
            yield row
        before = {key(row) for row in page}
        offset += len(page)
