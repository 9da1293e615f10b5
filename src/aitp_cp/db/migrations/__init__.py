"""The revisions this code knows, by file name alone: a readiness probe needs no migration tool."""

from pathlib import Path
from typing import Literal

REVISIONS: tuple[str, ...] = tuple(
    sorted(file.stem for file in Path(__file__).with_name("versions").glob("[0-9]*_*.py"))
)
HEAD = REVISIONS[-1]

State = Literal["head", "behind", "ahead"]


class SchemaAhead(RuntimeError):
    """The database was migrated by a newer version of the code than this."""

    def __init__(self, current: str) -> None:
        super().__init__(f"the database is at {current}, newer than {HEAD}, the last revision this version knows")
        self.current = current


class CannotMigrate(RuntimeError):
    """The database or its schema is not fit to hold the control plane; the message says why and what to do."""


def classify(current: str | None) -> State:
    """Compare the revision of a database with the newest one known; an unknown revision is ahead."""
    if current == HEAD:
        return "head"
    return "behind" if current is None or current in REVISIONS else "ahead"


def needs_upgrade(current: str | None) -> bool:
    """Return whether revisions are missing. Raises SchemaAhead where there is nothing this code may do."""
    state = classify(current)
    if state == "ahead":
        raise SchemaAhead(str(current))
    return state == "behind"
