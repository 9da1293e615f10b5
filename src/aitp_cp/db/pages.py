"""Pages of a list that end by size, whatever the limit of rows (contract, part II, section 8)."""

PAGE_BYTES = 1024 * 1024


def within_bytes(page: str, *, columns: str, size: str, order: str, found: str = "count(*) OVER ()") -> str:
    """Return a statement that ends the page `page` before the sum of `size` exceeds `PAGE_BYTES`.

    `size` measures a row in bytes of the response; `order` is the page's order; both name columns of `page`. The first
    row is returned whatever its size, so that a client always advances. The column `found` is the number of rows before
    the cut; a page that is cut twice passes the first number.
    """
    return f"""
SELECT {columns}, found FROM (
    SELECT {columns}, {found} AS found, sum({size}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS bytes_so_far,
           row_number() OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS position
    FROM ({page}) AS candidate
) AS measured
WHERE bytes_so_far <= {PAGE_BYTES} OR position = 1
ORDER BY {order}
"""  # noqa: S608 - the parts are constants of a store


def json_bytes(column: str) -> str:
    """Return SQL for the bytes of a text column as a JSON string, with quotes and escapes."""
    return f"octet_length(to_json({column})::text)"
