"""The command `aitp-cp`."""

from aitp_cp.cli.entry import main

__all__ = ["main"]
