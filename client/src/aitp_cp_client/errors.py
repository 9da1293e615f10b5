"""The one exception of failed calls, and the codes that the client itself sets."""

from collections.abc import Mapping
from typing import Any

# Codes of the client. All other codes come from the server (docs/errors.md).
UNREACHABLE = "UNREACHABLE"
TIMED_OUT = "TIMED_OUT"
CUT_SHORT = "CUT_SHORT"
ANSWER_INVALID = "ANSWER_INVALID"
UNVERIFIED = "UNVERIFIED"
KEY_LOST = "KEY_LOST"

PASSING = frozenset({429, 502, 503, 504})  # statuses of a server that is busy, away or starting


class ControlPlaneError(Exception):
    """A failed call. `status` is None without a response; `retry_after` is in seconds.

    `extra` holds the members of the error body except `error` and `code`. No text in it comes from the request.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after
        self.extra = dict(extra or {})

    @property
    def is_transient(self) -> bool:
        """Whether the server was busy or could not be reached, so that the same call may succeed later."""
        return self.status in PASSING or self.code in {UNREACHABLE, TIMED_OUT, CUT_SHORT}

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id and self.status else ""
        return f"{self.message} ({self.code}{request})"
