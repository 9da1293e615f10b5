"""The commands of docs/cli.md as a table, from the commands themselves."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from aitp_cp_client.commands import remote

COMMON = ("--limit", "--since", "--until", "--output", "--json")  # explained once, above the table


def commands() -> str:
    """Return one row for each command: its arguments, what it does, its options."""
    app = typer.Typer()
    remote.add_to(app)
    lines = ["| command | does | options |", "|---|---|---|"]
    for path, command in _walk(typer.main.get_command(app), ["aitp-cp"]):
        context = command.context_class(command)
        usage = [re.sub(r"[{}]|(?<=[.]{3}[}])[.]+", "", piece) for piece in command.collect_usage_pieces(context)[1:]]
        options = [option for option in command.params if option.param_type_name == "option"]
        about = [_option(option, context) for option in options if option.opts[0] not in COMMON]
        common = ", ".join(f"`{option.opts[-1]}`" for option in options if option.opts[0] in COMMON)
        shown = "<br>".join(filter(None, [*about, common]))
        lines.append(f"| `{' '.join([*path, *usage])}` | {_escape(command.help)} | {shown} |")
    return "\n".join(lines)


def _walk(command: Any, path: Sequence[str]) -> Iterator[tuple[Sequence[str], Any]]:
    for name, below in getattr(command, "commands", {}).items():
        yield from _walk(below, [*path, name])
    if not hasattr(command, "commands"):
        yield path, command


def _option(option: Any, context: Any) -> str:
    """Return its name with its values, and what it is for."""
    kinds = option.display_type(context).strip("<>").split("|")
    # Sorted, for Python takes two literals with the same values for one, and keeps the order of either.
    values = option.metavar or (", ".join(sorted(kinds)) if len(kinds) > 1 else "")
    about = _escape(option.help).removesuffix(".")
    return f"`{f'{option.opts[0]} {values}'.strip()}`: {about if about[1].isupper() else about[0].lower() + about[1:]}"


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")
