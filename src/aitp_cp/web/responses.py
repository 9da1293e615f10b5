"""Answers as JSON bytes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response

from aitp_cp.clock import iso
from aitp_cp.errors import AppError


def _encode_extra(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    raise TypeError(type(value).__name__)


_encoder = msgspec.json.Encoder(enc_hook=_encode_extra)


def encode(value: Any) -> bytes:
    return _encoder.encode(value)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_encoder.encode(value), status, headers, media_type="application/json")


def json_bytes(body: bytes | str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer whose bytes exist already: signed documents, stored manifests, cached pages."""
    return Response(body, status, headers, media_type="application/json")


def no_content() -> Response:
    return Response(status_code=204)


def error_response(error: AppError) -> Response:
    return json_bytes(encode_error(error), error.status, error.headers)


def encode_error(error: AppError) -> bytes:
    """The one shape of every error (contract, section 2)."""
    return _encoder.encode({"error": error.message, "code": error.code, **error.extra})
