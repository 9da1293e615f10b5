"""A parser of server-sent events, as in the HTML standard."""

from collections.abc import Iterator
from dataclasses import dataclass

# Bytes. A payload has at most 64 KiB, and JSON escapes can make it several times as long.
MAX_LINE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """A message with the last id so far; `event` is empty for an unnamed message."""

    event: str
    data: str
    id: str


class Reader:
    """Parses chunks of a stream; `retry_ms` is the wait before a reconnect."""

    def __init__(self, retry_ms: int) -> None:
        self.retry_ms = retry_ms
        self._rest = b""
        self._data: list[str] = []
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Yield the messages that this chunk completes; raise `ValueError` for a line over MAX_LINE."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE:
            raise ValueError("a line of the stream is too long")
        for line in lines:
            frame = self._parse_line(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if frame is not None:
                yield frame

    def _parse_line(self, line: str) -> Frame | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit() and len(value) < 9:
                self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Frame | None:
        frame = Frame(self._event, "\n".join(self._data), self._id) if self._data else None
        self._data, self._event = [], ""
        return frame
