"""Structured logs on standard output: JSON in production, readable lines in development."""

import logging
import re
import sys
import threading
import traceback
from contextlib import suppress
from json import dumps
from typing import Any, BinaryIO, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, ExcInfo, Processor

TRACE = 5
LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
# Lines below this level of a library tell about each packet and timer; `trace` asks for them.
LIBRARY_FLOOR = logging.INFO
CHATTY = ("uvicorn.access", "asyncio")

# The driver quotes rows and arguments in these parts of its messages, and any of them may be a secret.
QUOTED = (
    (
        re.compile(r"^DETAIL:.*?(?=^HINT:|^\S+Error|^Traceback|^During|^The above|\Z)", re.M | re.S),
        "DETAIL: withheld\n",
    ),
    (re.compile(r"(invalid input for query argument \$\d+).*$", re.M), r"\1"),
)


def configure(level: str, *, json: bool, stream: BinaryIO | None = None) -> None:
    """Send our own and every library's lines through the same processors, in the same shape, to standard output."""
    logging.addLevelName(TRACE, "TRACE")
    writer = _Writer(stream or sys.stdout.buffer)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = _as_json() if json else _as_text()
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=lambda *names: _Logger(writer, *names),
        # structlog knows no level below debug, and we say nothing below it.
        wrapper_class=structlog.make_filtering_bound_logger(max(LEVELS[level], logging.DEBUG)),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Handler(writer, shared, last)]
    root.setLevel(LEVELS[level] if level == "trace" else max(LEVELS[level], LIBRARY_FLOOR))
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(LEVELS[level], logging.WARNING))
    logging.captureWarnings(True)


class _Writer:
    """Whole lines, each at once with the operating system: a process that is killed has lost none."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def line(self, text: bytes) -> None:
        # Nobody reading the log any more is no reason to fail a request.
        with suppress(OSError, ValueError), self._lock:
            self._stream.write(text + b"\n")
            self._stream.flush()


class _Logger:
    """What structlog hands a rendered line to."""

    def __init__(self, writer: _Writer, name: str = "aitp_cp") -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = writer.line


class _Handler(logging.Handler):
    """Brings the standard library's records into the same shape."""

    def __init__(self, writer: _Writer, shared: list[Processor], last: list[Processor]) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last, _as_str],
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.line(self.format(record).encode(errors="backslashreplace"))


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
    """The traceback without local variables, and without what the database quotes of its rows."""
    text = "".join(traceback.format_exception(*exc_info)).rstrip("\n")
    for pattern, replacement in QUOTED:
        text = pattern.sub(replacement, text)
    return text


def _print_stack(text: TextIO, info: ExcInfo) -> None:
    text.write("\n" + _stack(info))
