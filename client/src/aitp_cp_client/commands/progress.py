"""How far a command has come."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aitp_cp_client.commands.output import err


def counting(doing: str) -> Progress:
    """A bar of so many out of so many on standard error, gone at its end; `doing` is a format with `task` in it."""
    columns = TextColumn(doing, markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
