"""Progress bars."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aitp_cp_client.commands.output import err


def counting(label: str) -> Progress:
    """Return a bar with a count on standard error, removed at its end; `label` is a format of `task`."""
    columns = TextColumn(label, markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
