"""What is recorded of every answered request: its latency, and one line of log."""

import time
from http import HTTPStatus

import structlog
from msgspec import UNSET

from aitp_cp.runtime import Runtime
from aitp_cp.telemetry.logging import RequestLine, log_request
from aitp_cp.web.context import RequestContext

log = structlog.get_logger("aitp_cp.http")

# Members of a response by which programs tell causes apart: words of closed lists, one of them in a response.
TELLING = frozenset({"bucket", "field", "reason", "required", "status", "verifyCode"})


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
    """Return what tells the causes of one code apart.

    Of a failure behind the error only its kind: its text may hold anything. The sentences of a 503 are ours.
    """
    error = context.error
    if error is None:
        return None
    for name in TELLING & error.extra.keys():
        return str(error.extra[name])
    if error.__cause__ is not None:
        return type(error.__cause__).__name__
    return error.message if error.status == HTTPStatus.SERVICE_UNAVAILABLE else context.reason
