"""Responses with JSON bodies."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response as Response  # for rooms whose documents are built once

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
    """Return a response whose body exists already: signed documents, stored manifests.

    A response keeps nothing of the request that it answers, so it can be built once and sent many times.
    """
    return Response(body, status, headers, media_type="application/json")


def no_content() -> Response:
    return Response(status_code=204)


def see_other(path: str) -> Response:
    """Return a redirect to a page of ours, which a browser gets with GET; `path` is as URLs are written."""
    return Response(status_code=303, headers={"Location": path})


def error_response(error: AppError) -> Response:
    return json_bytes(encode_error(error), error.status, error.headers)


def encode_error(error: AppError) -> bytes:
    """Encode an error in the one shape that all have (contract, section 2)."""
    return _encoder.encode({"error": error.message, "code": error.code, **error.extra})


def max_age(most_secs: int, left_secs: float = math.inf) -> str:
    """Return a `Cache-Control` of `most_secs`, or less where the response is valid for only `left_secs` more."""
    secs = math.floor(min(most_secs, left_secs))
    return f"max-age={secs}" if secs > 0 else "no-store"
