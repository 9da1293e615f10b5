"""Lists of what has an agent on either of two sides."""

from typing import Any

from aitp_cp.db.keyset import Order, Page, Window
from aitp_cp.db.pool import Connection
from aitp_cp.db.views import View
from aitp_cp.db.where import Where


class EitherSide:
    """Pages of `rows`, a select without conditions, with an agent in one of two columns.

    Each side is read off its own index; an OR over both would read and sort everything a busy agent ever did.
    """

    def __init__(self, view: View[Any], rows: str, sides: tuple[str, str], order: Order) -> None:
        first, second = sides
        newest = f"ORDER BY {order.sql} LIMIT {{reach}}"
        self._order = order
        self._statement = view.page(
            f"""
            SELECT * FROM (
                ({rows} WHERE {{where}} AND {first} = {{aid}} {newest})
                UNION ALL
                ({rows} WHERE {{where}} AND {second} = {{aid}} AND {first} IS DISTINCT FROM {{aid}} {newest})
            ) AS either
            ORDER BY {order.sql} LIMIT {{limit}} OFFSET {{offset}}
            """,  # noqa: S608 - the parts are constants of a store
            order.sql,
        )

    async def fetch(self, conn: Connection, where: Where, aid: str, window: Window) -> Page:
        """Read the rows of `window` that match."""
        reach = where.bind(window.rows + window.offset)
        return await self._order.fetch(conn, self._statement, where, window, aid=where.bind(aid), reach=reach)
