"""What is asked once, and what is answered for ever after."""

from typing import Any

import msgspec

from aitp_cp.errors import AppError


class Once(msgspec.Struct, frozen=True):
    """One idempotent request: the endpoint's name, its caller, the client's key and the body's digest."""

    endpoint: str
    caller: str
    key: str | None
    body_sha256: bytes


class Answer(msgspec.Struct, frozen=True):
    """A status and a JSON-able body; `stored` replaces the body where that holds a secret.

    `refusal` is what a fresh answer other than success was made of.
    """

    status: int
    body: Any
    stored: Any = None
    replayed: bool = False
    refusal: AppError | None = None


class StoredAnswer(msgspec.Struct, frozen=True):
    status: int
    body: msgspec.Raw
    request_sha256: bytes | None
