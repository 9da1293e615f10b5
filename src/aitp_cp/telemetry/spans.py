"""What the rooms know of tracing. OpenTelemetry itself is loaded only by a process that exports traces."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

Kind = Literal["internal", "server"]
Attributes = Mapping[str, str | int]


class Span(Protocol):
    """One piece of work with a beginning and an end."""

    def describe(self, name: str, attributes: Attributes, *, failed: bool = False) -> None:
        """What it turned out to be."""


class Tracer(Protocol):
    """Opens spans; `with` makes a span the parent of whatever happens inside, also in tasks that start there."""

    @property
    def statement(self) -> Callable[[str, float, BaseException | None], None] | None:
        """Told of each SQL statement just run: text, seconds, failure. None when nobody wants to know."""

    @property
    def call(self) -> Callable[[str, Attributes, float, BaseException | None], None] | None:
        """Told of each outbound request just ended: method, where it went and how it was answered, seconds, failure."""

    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: Kind = "internal",
        carrier: Attributes | None = None,
    ) -> AbstractContextManager[Span]:
        """A span around a block; `carrier` holds a caller's `traceparent` (W3C Trace Context)."""

    def close(self) -> None:
        """Send what is waiting; blocks for a bounded time."""


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
