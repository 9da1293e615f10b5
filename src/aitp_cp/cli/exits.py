"""How the server's commands leave (docs/operations.md), and the settings they start from."""

import os
from typing import TYPE_CHECKING

from aitp_cp_client.commands.output import stop

if TYPE_CHECKING:
    from aitp_cp.settings import Command, Settings

ADDRESS = 1
CONFIGURATION = 2
DATABASE = 3


def settings_or_stop(command: "Command", environ: dict[str, str] | None = None) -> "Settings":
    """Return the settings, or end the command with one message that names every wrong variable."""
    from aitp_cp.settings import SettingsError, load

    try:
        return load(os.environ if environ is None else environ, command=command)
    except SettingsError as wrong:
        stop(str(wrong), CONFIGURATION)
