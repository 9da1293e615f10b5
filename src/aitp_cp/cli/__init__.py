"""The command `aitp-cp`."""

from aitp_cp.cli.main import app

__all__ = ["main"]


def main() -> None:
    app()
