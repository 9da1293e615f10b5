"""Pages of a list that end by size, whatever the limit of rows (contract, part II, section 8)."""

PAGE_BYTES = 1024 * 1024
# Where reports decide how long a row is: the usual 100 rows fit, with 64 KiB each.
LONG_PAGE_BYTES = 16 * 1024 * 1024


def within_bytes(
    page: str,
    *,
    columns: str,
    size: str,
    order: str,
    most: int = PAGE_BYTES,
    more: str = "lead(true, 1, false) OVER place",
) -> str:
    """Return a statement that ends the page `page` before the sum of `size` exceeds `most`.

    `size` measures a row in bytes of the response; `order` is the page's order; both name columns of `page`. The first
    row is returned whatever its size, so that a client always advances. The column `more` tells whether `page` has a
    row after this one; a page that is cut twice passes the first result.
    """
    return f"""
SELECT {columns}, more FROM (
    SELECT {columns}, {more} AS more, sum({size}) OVER place AS bytes_so_far, row_number() OVER place AS position
    FROM ({page}) AS candidate
    WINDOW place AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)
) AS measured
WHERE bytes_so_far <= {most} OR position = 1
ORDER BY {order}
"""  # noqa: S608 - the parts are constants of a store


def json_size(column: str) -> str:
    """Return SQL for the bytes of a text column as JSON, a string with quotes and escapes or `null`."""
    return f"coalesce(octet_length(to_json({column})::text), 4)"
