"""Optional filters as SQL fragments, so that each list keeps one readable statement."""

from typing import Any

# The usual limits, and one more: a page reads a row beyond its limit to see whether there is a next page.
COMMON_COUNTS = frozenset({0, 20, 50, 100, 200, 500, 1000, 21, 51, 101, 201, 501, 1001})


class Where:
    """Collects conditions and their arguments; `{}` in a fragment stands for the next placeholder."""

    def __init__(self) -> None:
        self.args: list[Any] = []
        self._conditions: list[str] = []

    def add(self, fragment: str, value: Any) -> None:
        """Add a condition unless its filter is `None`."""
        if value is not None:
            self._conditions.append(fragment.replace("{}", self.bind(value)))

    def always(self, condition: str) -> None:
        self._conditions.append(condition)

    def bind(self, value: Any) -> str:
        """Add an argument and return its placeholder."""
        self.args.append(value)
        return f"${len(self.args)}"

    def rows(self, count: int) -> str:
        """Return a limit or offset: as text if it is a usual one and there are no other arguments, else a placeholder.

        The server plans a statement without arguments once. One with arguments it plans again and again, which takes
        longer than reading a page.
        """
        return self.bind(count) if self.args or count not in COMMON_COUNTS else str(count)

    def sql(self) -> str:
        return " AND ".join(self._conditions) or "true"
