"""The interface of tracing. Only a process that exports traces loads OpenTelemetry."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

Kind = Literal["internal", "server"]
Attributes = Mapping[str, str | int]
OnStatement = Callable[[str, float, BaseException | None], None]
OnCall = Callable[[str, Attributes, float, BaseException | None], None]


class Span:
    """A piece of work with a start and an end; this one is recorded nowhere."""

    def describe(self, name: str, attributes: Attributes, *, failed: bool = False) -> None:
        """Set name and attributes, which are known only at the end."""


class Tracer:
    """Opens spans. A span is the parent of all spans inside its block, also in tasks that start there.

    This one exports nothing; `tracing.Tracing` does.
    """

    statement: OnStatement | None = None  # called for each SQL statement: text, seconds, failure
    call: OnCall | None = None  # called for each outbound request: method, attributes, seconds, failure

    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: Kind = "internal",
        carrier: Attributes | None = None,
    ) -> AbstractContextManager[Span]:
        """Open a span around a block; `carrier` holds a caller's `traceparent` (W3C Trace Context)."""
        return nullcontext(Span())

    def close(self) -> None:
        """Export the queued spans; block for a bounded time."""


OFF = Tracer()
