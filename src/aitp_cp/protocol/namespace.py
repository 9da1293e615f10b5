"""Namespaces of agents and trust (contract, section 8)."""

import re

from aitp_cp.errors import BodyInvalid

DEFAULT_NAMESPACE = "default"
_NAMESPACE = re.compile(r"[A-Za-z0-9._:/-]{1,128}\Z")


def check_namespace(text: str) -> str:
    """Return the namespace as given; raises `BodyInvalid`."""
    if _NAMESPACE.match(text) is None:
        raise BodyInvalid("a namespace is 1 to 128 characters of A-Z a-z 0-9 . _ : / -")
    return text
