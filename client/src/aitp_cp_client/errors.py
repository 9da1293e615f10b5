"""What goes wrong between here and a control plane, as one exception."""

from collections.abc import Mapping
from typing import Any

# Codes of this client's own; every other one is the server's (docs/errors.md).
UNREACHABLE = "UNREACHABLE"
TIMED_OUT = "TIMED_OUT"
CUT_SHORT = "CUT_SHORT"
ANSWER_INVALID = "ANSWER_INVALID"
UNVERIFIED = "UNVERIFIED"


class ControlPlaneError(Exception):
    """A call that did not succeed. `status` is None when there was no answer, `retry_after` in seconds.

    `extra` holds members of the error body beside `error` and `code`. No text in it was sent by this client.
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

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id and self.status else ""
        return f"{self.message} ({self.code}{request})"
