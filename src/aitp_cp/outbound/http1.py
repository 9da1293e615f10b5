"""HTTP/1.1 as a client of other people's servers: written exactly, read leniently (RFC 9112).

    head ──"HTTP/1.1 200"──▶ fields ──blank line──▶ body ──▶ done
      │                        │                      │
      ▼ no status line         ▼ limit, end           ▼ limit, end, broken framing
    NotHttp                  done, incomplete       done, incomplete

Nothing behind a final status line changes the status: a part that cannot be understood ends the response there,
incomplete.
"""

import re
from collections.abc import Mapping
from typing import Literal

MAX_STATUS_LINE = 8 * 1024
MAX_FIELDS = 256 * 1024
MAX_CHUNK_LINE = 4 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.\d +(\d{3})(?:[ \t\r]|$)")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?\Z", re.DOTALL)
_BODILESS = frozenset({101, 204, 304})

Phase = Literal["status", "fields", "body", "chunk size", "chunk", "chunk end", "done"]


class NotHttp(Exception):
    """The first bytes are no status line of HTTP/1."""


def request(method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return the bytes of a request; raises `ValueError` for a header that would break its line."""
    fields = {**headers, "Connection": "close"}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    for name, value in fields.items():
        if not _NAME.match(name) or not _VALUE.match(value):
            raise ValueError("a header cannot be written")
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


class Response:
    """One response, fed as it arrives; `body` holds at most `max_bytes`, `headers` lowercase names."""

    def __init__(self, max_bytes: int) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._fields_size = 0
        self._left: int | None = None  # bytes of the body or chunk that are missing; None reads to the end
        self._sound = True
        self._phase: Phase = "status"

    @property
    def done(self) -> bool:
        return self._phase == "done"

    def feed(self, data: bytes) -> None:
        """Raises `NotHttp`."""
        self._buffer += data
        while not self.done and self._advance():
            pass

    def end(self) -> None:
        """The connection was closed; a body without a length ends here."""
        if self._phase == "body" and self._left is None:
            self.complete = self._sound
        self._phase = "done"

    def _advance(self) -> bool:
        """Consume the next line or piece of the body; return False when more has to arrive."""
        if self._phase in ("body", "chunk"):
            return self._read_body()
        end = self._buffer.find(b"\n")
        if end < 0:
            self._check_unfinished_line()
            return False
        line = self._take(end + 1)[:-1].removesuffix(b"\r")
        match self._phase:
            case "status":
                self._read_status(line)
            case "fields":
                self._read_field(line)
            case "chunk size":
                self._read_chunk_size(line)
            case _:
                self._phase = "done" if line else "chunk size"
        return True

    def _check_unfinished_line(self) -> None:
        size = len(self._buffer)
        if self._phase == "status":
            if size > MAX_STATUS_LINE or not b"HTTP/1.".startswith(bytes(self._buffer[:7])):
                raise NotHttp
            return
        limits = {"fields": MAX_FIELDS - self._fields_size, "chunk size": MAX_CHUNK_LINE, "chunk end": 1}
        if size > limits[self._phase]:
            self._phase = "done"

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _read_status(self, line: bytes) -> None:
        status_line = _STATUS_LINE.match(line)
        if status_line is None:
            raise NotHttp
        self.status = int(status_line[1])
        self._phase = "fields"

    def _read_field(self, line: bytes) -> None:
        self._fields_size += len(line)
        if self._fields_size > MAX_FIELDS:
            self._phase = "done"
        elif line:
            self._keep_field(line.decode("latin-1"))
        else:
            self._begin_body()

    def _keep_field(self, line: str) -> None:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.match(name):
            return  # a folded line, or no header at all
        before = self.headers.get(name.lower())
        self.headers[name.lower()] = value.strip() if before is None else f"{before}, {value.strip()}"

    def _begin_body(self) -> None:
        assert self.status is not None
        if 100 <= self.status < 200 and self.status != 101:
            self.status, self.headers, self._fields_size, self._phase = None, {}, 0, "status"
        elif self.status in _BODILESS:
            self.complete, self._phase = True, "done"
        elif "transfer-encoding" in self.headers:
            codings = self.headers["transfer-encoding"].lower().replace(" ", "").split(",")
            self._phase = "chunk size" if codings[-1] == "chunked" else "body"
            self._sound = codings == ["chunked"]  # what else was done to the body is not undone
        else:
            self._phase = "body"
            self._left = self._length()
            if self._left == 0:
                self.complete, self._phase = True, "done"

    def _length(self) -> int | None:
        lengths = {value.strip() for value in self.headers.get("content-length", "").split(",")}
        if lengths == {""}:
            return None
        length = lengths.pop()
        self._sound = not lengths and length.isascii() and length.isdigit() and len(length) < 16
        return int(length) if self._sound else None

    def _read_chunk_size(self, line: bytes) -> None:
        size = _CHUNK_SIZE.match(line)
        if size is None:
            self._phase = "done"
            return
        self._left = int(size[1], 16)
        self._phase = "chunk"
        if self._left == 0:
            self.complete, self._phase = self._sound, "done"  # trailers are not read

    def _read_body(self) -> bool:
        if not self._buffer:
            return False
        taken = self._take(len(self._buffer) if self._left is None else self._left)
        room = self._max_bytes - len(self.body)
        self.body += taken[:room]
        if len(taken) > room:
            self._phase = "done"
        elif self._left is not None:
            self._left -= len(taken)
            if self._left == 0:
                self.complete = self._phase == "body" and self._sound
                self._phase = "done" if self._phase == "body" else "chunk end"
        return True
