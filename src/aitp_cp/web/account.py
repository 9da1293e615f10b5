"""What is recorded of every answered request: its latency, and one line of log."""

import time

import structlog
from msgspec import UNSET

from aitp_cp.runtime import Runtime
from aitp_cp.telemetry.logging import RequestLine, log_request
from aitp_cp.web.context import RequestContext

log = structlog.get_logger("aitp_cp.http")


class LineBudget:
    """At most `most` lines in one second; the number of those left out is logged in one line afterwards."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = 0
        self._lines = 0

    def take(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            left_out, self._second, self._lines = self._lines - self._most, second, 0
            if left_out > 0:
                log.warning("refused_requests_not_logged", count=left_out)
        self._lines += 1
        return self._lines <= self._most


# Requests that reach no endpoint cost their sender next to nothing: 50 lines a second show what is going on.
_refusal_lines = LineBudget(50)


def account(rt: Runtime, context: RequestContext, method: str, status: int, elapsed: float) -> None:
    """Count one answered request and log it; `elapsed` in seconds."""
    matched = context.endpoint is not None
    rt.metrics.observe_request(context.route, method if matched else "other", status // 100, elapsed)
    if not matched and not _refusal_lines.take():
        return
    error = context.error
    log_request(
        RequestLine(
            method=method,
            route=context.route,
            status=status,
            ms=round(elapsed * 1000, 2),
            request_id=context.request_id,
            actor=context.actor,
            client_ip=context.client_ip,
            code=UNSET if error is None else error.code,
            reason=_reason(context) or UNSET,
        )
    )


def _reason(context: RequestContext) -> str | None:
    """Return the kind of the failure behind an error, but not its text, which may hold anything."""
    cause = None if context.error is None else context.error.__cause__
    return context.reason if cause is None else type(cause).__name__
