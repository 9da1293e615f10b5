"""Parameters that several commands have, and how functions become commands."""

import inspect
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from aitp_cp_client.commands.exits import LEGEND

Options = TypeVar("Options")
Result = TypeVar("Result")
Opened = TypeVar("Opened")
Call = TypeVar("Call", bound=Callable[..., object])
Run = Callable[[Callable[[Opened], Awaitable[None]]], None]


def read_moment(text: str) -> datetime:
    """Parse a time as the API does; raise `ValueError`, which typer shows."""
    from aitp_cp_client.wire import moments  # here, because --help does not need it

    moment = moments.from_text(text)
    if moment is None:
        raise ValueError(text)
    return moment


_DURATION = re.compile(r"(?P<count>[0-9]{1,9})(?P<unit>[smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def read_duration(text: str) -> timedelta:
    """Read a duration such as 90d, 12h, 30m or 5s; raises `ValueError`, which the option shows."""
    duration = _DURATION.fullmatch(text)
    if duration is None:
        raise ValueError(f"{text!r} is not a duration such as 90d, 12h, 30m or 5s")
    return timedelta(seconds=int(duration["count"]) * _SECONDS[duration["unit"]])


def read_expiry(text: str) -> datetime:
    """Read a time, or a duration from now; raises `ValueError`, which the option shows."""
    try:
        return datetime.now(UTC) + read_duration(text) if _DURATION.fullmatch(text) else read_moment(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is neither a time nor a duration such as 90d") from None


Json = Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file, which is replaced only when complete.")
]
Aid = Annotated[str, typer.Argument(metavar="AID", help="The agent.")]
Moment = typer.Option(metavar="TIME", parser=read_moment, help="ISO-8601, inclusive; without an offset it is UTC.")
EventType = Annotated[str | None, typer.Option(help="Event type, or its beginning: `handshake.*`.")]
WithVerdict = Annotated[
    Literal["none", "unverifiable", "invalid", "verified"] | None, typer.Option(help="What the signature is worth.")
]
WithProof = Annotated[
    Literal["shared-key", "agent-token", "signature"] | None, typer.Option("--proof", help="How its reporter is known.")
]
Active = Annotated[bool, typer.Option("--active", help="Neither revoked nor expired.")]


def group(help: str) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(help=help, epilog=LEGEND, no_args_is_help=True)


def as_options(shape: type[Options]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorate a command that takes its options as one dataclass, the last argument."""

    def grouped(command: Callable[..., Result]) -> Callable[..., Result]:
        def call(*first: object, **values: object) -> Result:
            return command(*first, shape(**values))

        *parameters, _ = inspect.signature(command).parameters.values()
        return _described(call, command, [*parameters, *inspect.signature(shape).parameters.values()])

    return grouped


def with_opened(run: "Run[Opened]") -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Decorate an async command whose first argument is what `run` opens for it, such as a client of the server."""

    def at_once(command: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        def call(**values: object) -> None:
            run(lambda opened: command(opened, **values))

        _, *parameters = inspect.signature(command).parameters.values()
        return _described(call, command, parameters)

    return at_once


def _described(call: Call, command: Callable[..., object], parameters: list[inspect.Parameter]) -> Call:
    """Return `call` with the name and help of the command, and with these parameters, which typer reads."""
    function: Any = call
    function.__name__, function.__doc__ = command.__name__, command.__doc__
    function.__signature__ = inspect.Signature(parameters)
    return call
