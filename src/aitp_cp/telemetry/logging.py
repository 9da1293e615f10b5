"""Structured logs on standard output: JSON in production, readable lines in development."""

import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from json import dumps
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from aitp_cp.telemetry.log_writer import LogWriter, Write, to_descriptor
from aitp_cp_client.tracebacks import format_traceback

TRACE = 5
LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
# Libraries log each packet and timer below this level; only `trace` shows those lines.
LIBRARY_FLOOR = logging.INFO
CHATTY = {
    "uvicorn.access": logging.WARNING,
    "uvicorn.asgi": logging.INFO,  # at `trace` each URL, where a client may have put its key
    "asyncio": logging.WARNING,
    "asyncpg.pool": logging.ERROR,  # a stack whenever the database is unavailable; the callers log one line already
}
# What a library logs may quote a client, who may have put a key or an agent token anywhere.
_CREDENTIAL = re.compile(rb"\b(ac[a-z]_)[A-Za-z0-9_.-]{16,}")


def configure(level: str, *, json: bool, write: Write | None = None) -> None:
    """Send the lines of this package and of all libraries to standard output, in one format."""
    logging.addLevelName(TRACE, "TRACE")
    writer = _output.writer = LogWriter(
        write or _standard_output(), on_resume=lambda lines: _writer_log.warning("log_lines_dropped", lines=lines)
    )
    _output.level = level
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = _as_json() if json else _as_text()
    _output.renderer = last[-1] if json and LEVELS[level] <= logging.INFO else None
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=lambda *names: _Logger(writer, *names),
        # structlog has no level below debug, and this package logs nothing below it.
        wrapper_class=structlog.make_filtering_bound_logger(max(LEVELS[level], logging.DEBUG)),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Handler(writer, shared, last)]
    root.setLevel(LEVELS[level] if level == "trace" else max(LEVELS[level], LIBRARY_FLOOR))
    for name, floor in CHATTY.items():
        logging.getLogger(name).setLevel(max(LEVELS[level], floor))
    logging.captureWarnings(True)


def _standard_output() -> Write:
    try:
        return to_descriptor(sys.stdout.fileno())
    except OSError:  # a stream in memory
        return sys.stdout.buffer.write


class _Output:
    """The log writer of this process."""

    writer: LogWriter | None = None
    level = "info"
    renderer: Processor | None = None  # the last processor, where lines of requests are written without it


_output = _Output()
_writer_log = structlog.get_logger("aitp_cp.log")
_request_log = structlog.get_logger("aitp_cp.http")


def configured() -> bool:
    """Return whether this process logs. Short commands print instead."""
    return _output.writer is not None


def shows_stacks() -> bool:
    """Return whether the log level asks for stack traces of fatal errors."""
    return _output.level in {"debug", "trace"}


def flush() -> None:
    """Write the queued lines, for a bounded time, at the end of the process."""
    if _output.writer is not None:
        _output.writer.flush()


def count_dropped(count: Callable[[int], None]) -> None:
    """Call `count` with the number of dropped lines from now on."""
    if _output.writer is not None:
        _output.writer.on_drop = count


class RequestLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The log line of a request, with the members of every other line."""

    method: str
    route: str
    status: int
    ms: float
    request_id: str
    actor: str
    client_ip: str
    code: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    event: str = "request"
    logger: str = "aitp_cp.http"
    level: str = "info"
    timestamp: datetime = msgspec.field(default_factory=partial(datetime.now, UTC))


REQUEST_FIELDS = ("method", "route", "status", "ms", "request_id", "actor", "client_ip", "code", "reason")


def log_request(line: RequestLine) -> None:
    """Log a request; JSON lines skip the processors, because there is one line per request."""
    if _output.writer is not None and structlog.get_config()["processors"][-1] is _output.renderer:
        _output.writer.line(_encoder.encode(line))
        return
    fields = {name: getattr(line, name) for name in REQUEST_FIELDS}
    _request_log.info(line.event, **{name: value for name, value in fields.items() if value is not msgspec.UNSET})


class _Logger:
    """Takes rendered lines from structlog."""

    def __init__(self, writer: LogWriter, name: str = "aitp_cp") -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = writer.line


class _Handler(logging.Handler):
    """Formats records of the standard library in the same way."""

    def __init__(self, writer: LogWriter, shared: list[Processor], last: list[Processor]) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last, _as_str],
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode(errors="backslashreplace")
        self._writer.line(_CREDENTIAL.sub(rb"\1<...>", line))


def _as_json() -> list[Processor]:
    return [structlog.processors.ExceptionRenderer(_stack), _render_json]


def _as_text() -> list[Processor]:
    console = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=_print_stack)
    return [lambda logger, method, event: console(logger, method, event).encode(errors="backslashreplace")]


_encoder = msgspec.json.Encoder(enc_hook=str)


def _render_json(_logger: Any, _method: str, event: EventDict) -> bytes:
    try:
        return _encoder.encode(event)
    except (TypeError, ValueError, OverflowError, RecursionError):  # such as a lone surrogate in a client's text
        return dumps(event, default=str, skipkeys=True).encode()


def _as_str(_logger: Any, _method: str, line: Any) -> str:
    return bytes(line).decode()


def _stack(exc_info: ExcInfo) -> str:
    return format_traceback(exc_info[1])


def _print_stack(text: TextIO, info: ExcInfo) -> None:
    text.write("\n" + _stack(info))
