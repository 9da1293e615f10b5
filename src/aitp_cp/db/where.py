"""Optional filters as SQL fragments, so that each list endpoint keeps one readable statement."""

from typing import Any


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

    def sql(self) -> str:
        return " AND ".join(self._conditions) or "true"
