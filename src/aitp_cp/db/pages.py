"""Pages of a list that end by size, whatever number of rows was asked for (contract, part II, section 8)."""

PAGE_BYTES = 1024 * 1024


def within_bytes(page: str, *, columns: str, size: str, order: str, found: str = "count(*) OVER ()") -> str:
    """Wrap the statement of a page, limit and all, so that it ends before `size` adds up to more than `PAGE_BYTES`.

    `size` measures one row in bytes of the answer; `order` is the page's order; both name columns of `page`. The first
    row comes whatever its size, so that a client that reads on always gets further. Each row also says how many were
    `found` before the cut; a page that was cut already hands its own number on.
    """
    return f"""
SELECT {columns}, found FROM (
    SELECT {columns}, {found} AS found, sum({size}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS bytes_so_far,
           row_number() OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS place
    FROM ({page}) AS candidate
) AS measured
WHERE bytes_so_far <= {PAGE_BYTES} OR place = 1
ORDER BY {order}
"""  # noqa: S608 - the parts are constants of a store


def json_bytes(column: str) -> str:
    """How many bytes a text column takes as a JSON string, quotes and escapes included."""
    return f"octet_length(to_json({column})::text)"
