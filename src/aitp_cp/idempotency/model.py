"""An idempotent request, and the response that every repetition of it gets."""

import hashlib
from typing import Any

import msgspec

from aitp_cp.errors import AppError

Place = tuple[str, str]  # scope and key: the primary key of the table


class Once(msgspec.Struct, frozen=True):
    """One request: the endpoint's name, its caller, the client's key and the body's digest."""

    endpoint: str
    caller: str
    key: str | None
    body_sha256: bytes

    @property
    def place(self) -> Place | None:
        """The scope is the endpoint and a digest of the caller, within the column's 64 characters."""
        if self.key is None:
            return None
        return f"{self.endpoint}#{hashlib.sha256(self.caller.encode()).hexdigest()[:32]}", self.key


class ApiResponse(msgspec.Struct, frozen=True):
    """A status and a JSON-able body; `stored` replaces the body where that holds a secret.

    `refusal` is the error that a fresh response other than success was made of.
    """

    status: int
    body: Any
    stored: Any = None
    replayed: bool = False
    refusal: AppError | None = None


class StoredResponse(msgspec.Struct, frozen=True):
    status: int
    body: msgspec.Raw
    request_sha256: bytes | None
