"""Merge values that one caller reported: each rule is commutative, associative and idempotent."""

from collections.abc import Iterable
from typing import Any, TypeVar

from aitp_cp.protocol.verdicts import Verdict
from aitp_cp_client.wire import aid as aids

T = TypeVar("T", bound=Any)

# `invalid` ranks with `none`: its signature proves what an issuer said, not that this is a token.
RANKED = (Verdict.NONE, Verdict.INVALID, Verdict.UNVERIFIABLE, Verdict.VERIFIED)

# The first ones in order are kept; without a limit, reports could fill the disk through one row.
MAX_GRANTS = 1000
MAX_GRANTS_BYTES = 64 * 1024


def least(first: T | None, second: T | None) -> T | None:
    """Return the lesser of two values, or the only known one."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


def union(*grants: Iterable[str]) -> list[str]:
    """Return all grants once, by code point, at most `MAX_GRANTS` and `MAX_GRANTS_BYTES` of text."""
    kept: list[str] = []
    size = 0
    for name in sorted(set().union(*grants))[:MAX_GRANTS]:
        size += len(name.encode())
        if size > MAX_GRANTS_BYTES:
            break
        kept.append(name)
    return kept


def higher(first: Verdict, second: Verdict) -> Verdict:
    """Return the verdict of the higher rank."""
    return max(first, second, key=RANKED.index)


def is_agent(name: str | None) -> bool:
    """Return whether a party is an AID in its canonical spelling."""
    return name is not None and aids.recognise(name) == name


def differ(first: T | None, second: T | None) -> bool:
    """Return whether two values are known, not empty, and different."""
    return bool(first) and bool(second) and first != second
