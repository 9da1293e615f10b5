"""Signs long lists in a process of their own.

The SDK holds the interpreter's lock while it signs: a third of a second for 100,000 entries, in which the
event loop would stand still. The child gets the key over a pipe, never by its arguments or its environment,
and ends when its parent does, however that ends.
"""

import gc
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO

from aitp_cp.protocol.signer import Signer
from aitp_cp.revocation.model import Signed
from aitp_cp.revocation.signing import sign

SEED_HEX_CHARACTERS = 64
END_SECS = 5

# A request: lifetime in seconds, number of chunks; then each chunk after its length.
_REQUEST = struct.Struct(">QQ")
# An answer: length of the body, entries that were left out, ETag; then the body.
_ANSWER = struct.Struct(">QQ66s")
_LENGTH = struct.Struct(">Q")


class SigningProcess:
    """The parent's end; starts the child when it is first needed. Its methods block and are called from threads."""

    def __init__(self, seed_hex: str) -> None:
        self._seed = seed_hex.encode()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def sign(self, chunks: Sequence[bytes], ttl_secs: int) -> Signed:
        """Raises `OSError` or `EOFError` when there is no child to do it; the next call starts another one."""
        with self._lock:
            child = self._child or self._start()
            try:
                return _ask(child, chunks, ttl_secs)
            except BaseException:
                self._end()
                raise

    def kill(self) -> None:
        """End the child at once, also under a `sign` in another thread, which then raises."""
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        self.kill()
        with self._lock:
            self._end()

    def _start(self) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen(  # noqa: S603 - this interpreter and this module, nothing from outside
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # an interrupt from the terminal is the parent's to handle
        )
        self._child = child
        _stream(child.stdin).write(self._seed)
        return child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait(END_SECS)
        _stream(child.stdout).close()
        try:
            _stream(child.stdin).close()
        except OSError:
            return  # what was still to be written has no reader


def _ask(child: "subprocess.Popen[bytes]", chunks: Sequence[bytes], ttl_secs: int) -> Signed:
    request, answer = _stream(child.stdin), _stream(child.stdout)
    request.write(_REQUEST.pack(ttl_secs, len(chunks)))
    for chunk in chunks:
        request.write(_LENGTH.pack(len(chunk)))
        request.write(chunk)
    request.flush()
    size, unsigned, etag = _ANSWER.unpack(_read(answer, _ANSWER.size))
    return Signed(_read(answer, size), etag.decode(), unsigned)


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    gc.disable()  # nothing here ever refers back to itself
    signer = Signer.from_seed(_read(requests, SEED_HEX_CHARACTERS).decode())
    while True:
        ttl_secs, count = _REQUEST.unpack(_read(requests, _REQUEST.size))
        chunks = [_read(requests, _LENGTH.unpack(_read(requests, _LENGTH.size))[0]) for _ in range(count)]
        signed = sign(signer, chunks, ttl_secs)
        answers.write(_ANSWER.pack(len(signed.body), signed.unsigned, signed.etag.encode()))
        answers.write(signed.body)
        answers.flush()


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("the other end of the pipe is closed")
    return data


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # both are pipes
    return stream


if __name__ == "__main__":
    try:
        _serve(sys.stdin.buffer, sys.stdout.buffer)
    except (EOFError, OSError):
        sys.exit(0)
