"""Iteration over the rows of a paged list."""

from collections.abc import AsyncIterator, Iterable
from typing import Protocol, TypeVar

Row = TypeVar("Row")


class Rows(list[Row]):
    """A page of a list; `next_before` is the cursor of the next page, None on the last."""

    def __init__(self, rows: Iterable[Row], next_before: str | None) -> None:
        super().__init__(rows)
        self.next_before = next_before


class Fetch(Protocol[Row]):
    """Fetches a page: at most `limit` rows, after `offset` rows or after the cursor `before`."""

    async def __call__(self, limit: int, offset: int = 0, before: str | None = None) -> Rows[Row]: ...


async def rows(fetch: Fetch[Row], size: int = 500) -> AsyncIterator[Row]:
    """Iterate over all rows, page by page.

    With cursors, concurrent inserts and deletes neither repeat nor hide a row. Control planes without cursors are
    paged by offset, where both can happen.
    """
    page, offset, by_cursor = await fetch(size), 0, False
    while page:
        for row in page:
            yield row
        offset += len(page)
        if page.next_before is not None:
            page, by_cursor = await fetch(size, before=page.next_before), True
        elif len(page) == size and not by_cursor:
            page = await fetch(size, offset)
        else:
            return
