"""The interface of tracing. Only a process that exports traces loads OpenTelemetry."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

Kind = Literal["internal", "server"]
Attributes = Mapping[str, str | int]


class Span(Protocol):
    """A piece of work with a start and an end."""

    def describe(self, name: str, attributes: Attributes, *, failed: bool = False) -> None:
        """Set name and attributes, which are known only at the end."""


class Tracer(Protocol):
    """Opens spans. A span is the parent of all spans inside its block, also in tasks that start there."""

    @property
    def statement(self) -> Callable[[str, float, BaseException | None], None] | None:
        """A callback for each SQL statement: text, seconds, failure. None if tracing is off."""

    @property
    def call(self) -> Callable[[str, Attributes, float, BaseException | None], None] | None:
        """A callback for each outbound request: method, attributes, seconds, failure. None if tracing is off."""

    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: Kind = "internal",
        carrier: Attributes | None = None,
    ) -> AbstractContextManager[Span]:
        """Open a span around a block; `carrier` holds a caller's `traceparent` (W3C Trace Context)."""

    def close(self) -> None:
        """Export the queued spans; block for a bounded time."""


class _Ignored:
    def describe(self, name: str, attributes: Attributes, *, failed: bool = False) -> None:
        pass


class _Off:
    statement = None
    call = None
    _nothing: AbstractContextManager[Span] = nullcontext(_Ignored())

    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: Kind = "internal",
        carrier: Attributes | None = None,
    ) -> AbstractContextManager[Span]:
        return self._nothing

    def close(self) -> None:
        pass


OFF: Tracer = _Off()
