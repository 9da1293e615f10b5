"""Options of a command as one dataclass."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar, get_type_hints

import typer

Options = TypeVar("Options")


def read_moment(text: str) -> datetime:
    """Parse a time as the API does; raise `ValueError`, which typer shows."""
    from aitp_cp_client.wire import moments  # here, because --help does not need it

    moment = moments.from_text(text)
    if moment is None:
        raise ValueError(text)
    return moment


Moment = typer.Option(metavar="TIME", parser=read_moment, help="ISO-8601, inclusive; without an offset it is UTC.")


@dataclass(frozen=True, slots=True)
class EventOptions:
    """Options of `events export`."""

    type: Annotated[str | None, typer.Option(help="Exact event type.")] = None
    aid: Annotated[str | None, typer.Option(help="Sender or receiver.")] = None
    session: Annotated[str | None, typer.Option(help="One session.")] = None
    run: Annotated[str | None, typer.Option(help="One run.")] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None
    after: Annotated[int, typer.Option(min=0, help="Start after this position in the log.")] = 0
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, which is replaced only when complete.")
    ] = None


def as_options(shape: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Decorate a command that takes the options of a dataclass as one argument."""

    def grouped(command: Callable[[Options], None]) -> Callable[..., None]:
        def call(**values: object) -> None:
            command(shape(**values))

        call.__doc__ = command.__doc__
        call.__annotations__ = get_type_hints(shape, include_extras=True)
        call.__dict__["__signature__"] = inspect.signature(shape)
        return call

    return grouped
