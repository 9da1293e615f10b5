"""Commands with more options than arguments are good for."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar, get_type_hints

import typer

Options = TypeVar("Options")


def read_moment(text: str) -> datetime:
    """A time as the API reads it; raises `ValueError`, which the option shows."""
    from aitp_cp_client.wire import moments  # which --help need not load

    moment = moments.from_text(text)
    if moment is None:
        raise ValueError(text)
    return moment


Moment = typer.Option(metavar="TIME", parser=read_moment, help="ISO-8601, inclusive; without an offset it is UTC.")


@dataclass(frozen=True, slots=True)
class EventOptions:
    """What `events export` can be asked for."""

    type: Annotated[str | None, typer.Option(help="Exact event type.")] = None
    aid: Annotated[str | None, typer.Option(help="Either side.")] = None
    session: Annotated[str | None, typer.Option(help="One session.")] = None
    run: Annotated[str | None, typer.Option(help="One run.")] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None
    after: Annotated[int, typer.Option(min=0, help="Begin after this place in the log.")] = 0
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Into this file, which appears only when it is complete.")
    ] = None


def as_options(shape: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Let a command take the members of a dataclass as its options, and get them as one argument."""

    def grouped(command: Callable[[Options], None]) -> Callable[..., None]:
        def call(**given: object) -> None:
            command(shape(**given))

        call.__doc__ = command.__doc__
        call.__annotations__ = get_type_hints(shape, include_extras=True)
        call.__dict__["__signature__"] = inspect.signature(shape)
        return call

    return grouped
