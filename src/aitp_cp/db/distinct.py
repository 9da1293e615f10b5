"""The values of an indexed column: one look into the index for each value, not one for each row."""


def distinct(table: str, column: str) -> str:
    """Return the statement that reads the first $1 values of a column that is never null."""
    return f"""
WITH RECURSIVE known AS (
    (SELECT {column} FROM {table} ORDER BY {column} LIMIT 1)
    UNION ALL
    SELECT (SELECT {column} FROM {table} WHERE {column} > known.{column} ORDER BY {column} LIMIT 1)
    FROM known WHERE known.{column} IS NOT NULL
)
SELECT {column} FROM known WHERE {column} IS NOT NULL LIMIT $1
"""  # noqa: S608 - the parts are constants of a store
