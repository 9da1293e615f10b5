"""A typed async client of the control plane's API (docs/client.md)."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aitp_cp_client.api import *  # noqa: F403


def __getattr__(name: str) -> object:
    """Load the client on first use: `aitp-cp --help` and the wire rules do not need it."""
    return getattr(import_module("aitp_cp_client.api"), name)
