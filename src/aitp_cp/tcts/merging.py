"""One rule per kind of value, in Python and in SQL, by which reports of the same thing become one row.

Every rule is commutative, associative and idempotent: the order of reports, their repetition and their division into
batches cannot show in the result. In SQL the row at hand is `stored` and the reported one is `excluded`.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T", bound=Any)

# The first ones in order are kept: a union that only grew would let reports fill the disk through one row.
MAX_GRANTS = 1000


def least(one: T | None, other: T | None) -> T | None:
    """The lesser of two values, or the one that is known."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def greatest(one: T | None, other: T | None) -> T | None:
    """The greater of two values, or the one that is known."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def union(*grants: Iterable[str]) -> list[str]:
    """All grants once, by code point, at most `MAX_GRANTS`."""
    return sorted(set().union(*grants))[:MAX_GRANTS]


def least_sql(column: str) -> str:
    return f"LEAST(stored.{column}, excluded.{column})"


def least_text_sql(column: str) -> str:
    """Text by code point, as Python compares it, whatever the collation of the database."""
    return f'LEAST(stored.{column} COLLATE "C", excluded.{column})'


def greatest_text_sql(column: str) -> str:
    return f'GREATEST(stored.{column} COLLATE "C", excluded.{column})'


def union_sql(column: str) -> str:
    """A sorted `jsonb` array; what is stored and not an array counts as empty."""
    return f"""(
        SELECT coalesce(jsonb_agg(name ORDER BY name COLLATE "C"), '[]') FROM (
            SELECT name FROM (
                SELECT jsonb_array_elements_text({_array("stored", column)}) AS name
                UNION
                SELECT jsonb_array_elements_text({_array("excluded", column)})
            ) AS every ORDER BY name COLLATE "C" LIMIT {MAX_GRANTS}
        ) AS kept)"""


def _array(row: str, column: str) -> str:
    return f"CASE jsonb_typeof({row}.{column}) WHEN 'array' THEN {row}.{column} ELSE '[]' END"


def on_conflict(key: str, columns: dict[str, str], extra: str = "") -> str:
    """Merges `excluded` into `stored` by an expression per column; a row that would not change is left alone."""
    assignments = ", ".join(f"{column} = {merged}" for column, merged in columns.items())
    before = ", ".join(f"stored.{column}" for column in columns)
    after = ", ".join(columns.values())
    return f"ON CONFLICT ({key}) DO UPDATE SET {assignments}{extra} WHERE ({before}) IS DISTINCT FROM ({after})"
