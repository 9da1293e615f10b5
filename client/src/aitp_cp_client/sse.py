"""Server-sent events from the bytes of an answer, as the HTML standard reads them."""

from collections.abc import Iterator
from dataclasses import dataclass

# An event's payload has at most 64 KiB, which escapes can make some times as long.
MAX_LINE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """One dispatched message and the last id up to it; `event` is empty for an unnamed one."""

    event: str
    data: str
    id: str


class Reader:
    """Takes bytes as they arrive; keeps how long to wait before coming back."""

    def __init__(self, retry_ms: int) -> None:
        self.retry_ms = retry_ms
        self._rest = b""
        self._data: list[str] = []
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Messages that this chunk completes; raises `ValueError` for a line without end."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE:
            raise ValueError("a line of the stream is too long")
        for line in lines:
            frame = self._take(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if frame is not None:
                yield frame

    def _take(self, line: str) -> Frame | None:
        if not line:
            return self._dispatched()
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

    def _dispatched(self) -> Frame | None:
        frame = Frame(self._event, "\n".join(self._data), self._id) if self._data else None
        self._data, self._event = [], ""
        return frame
