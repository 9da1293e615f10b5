"""An idempotent request, and the response that every repetition of it gets."""

from typing import Any

import msgspec

from aitp_cp.errors import AppError

ScopedKey = tuple[str, str]  # endpoint with a digest of the caller, and the client's key: the primary key of the table


class Once(msgspec.Struct, frozen=True):
    """A request with a key: where its response is stored, and the digest of its body."""

    key: ScopedKey
    body_sha256: bytes


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
