"""What every command prints with, and how it leaves."""

import os
from typing import NoReturn

import typer
from rich.console import Console

from aitp_cp.cli.remote.exits import BROKEN_PIPE
from aitp_cp.cli.remote.output import give_up_output
from aitp_cp.settings import Command, Settings, SettingsError, load

ADDRESS = 1
CONFIGURATION = 2
DATABASE = 3


class _Screen(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Nobody reads any more: that is neither success nor a failure that was found."""
        give_up_output()
        raise SystemExit(BROKEN_PIPE)


out = _Screen()
err = Console(stderr=True)


def stop(message: str, code: int) -> NoReturn:
    """Say on standard error why the command ends, and end it."""
    err.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def settings_or_stop(command: Command, environ: dict[str, str] | None = None) -> Settings:
    """The settings, or one message naming every wrong variable."""
    try:
        return load(os.environ if environ is None else environ, command=command)
    except SettingsError as wrong:
        stop(str(wrong), CONFIGURATION)
