"""Optional filters as SQL fragments, so that each list endpoint keeps one readable statement."""

from typing import Any

# Of rows, and with one more, by which a page knows that it is not the last.
COMMON_COUNTS = frozenset({0, 20, 50, 100, 200, 500, 1000, 21, 51, 101, 201, 501, 1001})


class Where:
    """Collects conditions and their arguments; `{}` in a fragment stands for the next placeholder."""

    def __init__(self) -> None:
        self.args: list[Any] = []
        self._conditions: list[str] = []

    def add(self, fragment: str, value: Any) -> None:
        """Add a condition, unless the filter it belongs to was not given (`None`)."""
        if value is not None:
            self._conditions.append(fragment.replace("{}", self.bind(value)))

    def always(self, condition: str) -> None:
        self._conditions.append(condition)

    def bind(self, value: Any) -> str:
        """Keep one argument and return its placeholder."""
        self.args.append(value)
        return f"${len(self.args)}"

    def rows(self, count: int) -> str:
        """A number of rows, kept as an argument unless it is a common one and there are no others.

        The server plans a statement without arguments once, and one with them again and again, for longer than a page
        takes to read.
        """
        return self.bind(count) if self.args or count not in COMMON_COUNTS else str(count)

    def sql(self) -> str:
        return " AND ".join(self._conditions) or "true"
