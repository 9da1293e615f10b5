"""A typed async client of the control plane's API, for operators' tools and for agents (docs/client.md)."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aitp_cp_client.api import *  # noqa: F403


def __getattr__(name: str) -> object:
    """Load the client when one of its names is used: `aitp-cp --help` and the wire rules do without it."""
    return getattr(import_module("aitp_cp_client.api"), name)
