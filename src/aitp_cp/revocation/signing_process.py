"""Signs long lists in a process of its own.

The SDK holds the interpreter's lock while it signs: a third of a second for 100,000 entries, in which the event loop
would stand still. The child gets the key over a pipe, never by its arguments, and ends when that pipe is closed,
which includes the parent being killed.
"""

import gc
import multiprocessing
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import msgspec

from aitp_cp.protocol.signer import Signer
from aitp_cp.revocation.model import Signed
from aitp_cp.revocation.signing import sign

END_SECS = 5  # a killed process is gone at once unless the machine is overloaded

# Not as pickles: their buffers outlive a broken pipe, and a newer Python complains of them when it collects garbage.
_ENCODER = msgspec.msgpack.Encoder()
_TASK = msgspec.msgpack.Decoder(tuple[list[bytes], int])
_SIGNED = msgspec.msgpack.Decoder(Signed)
_SPAWN = multiprocessing.get_context("spawn")  # a forked child would hold the parent's sockets and locks


class SigningProcess:
    """The parent's end; starts the child when it is first needed. Its methods block and are called from threads."""

    def __init__(self, seed_hex: str) -> None:
        self._seed = seed_hex
        self._lock = threading.Lock()
        self._child: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def sign(self, chunks: Sequence[bytes], ttl_secs: int) -> Signed:
        """Return the signed list; raises `OSError` or `EOFError` when the child ends. The next call starts another."""
        with self._lock:
            try:
                pipe = self._pipe or self._start()
                pipe.send_bytes(_ENCODER.encode((chunks, ttl_secs)))
                signed = _SIGNED.decode(pipe.recv_bytes())
            except BaseException:
                self._end()
                raise
            return signed

    def kill(self) -> None:
        """End the child at once, also under a `sign` in another thread, which then raises."""
        if (child := self._child) is not None:
            with suppress(ValueError):  # closed by the other thread meanwhile
                child.kill()

    def close(self) -> None:
        self.kill()
        with self._lock:
            self._end()

    def _start(self) -> Connection:
        self._pipe, theirs = _SPAWN.Pipe()
        self._child = _SPAWN.Process(target=_serve, args=(theirs, self._seed), name="sign", daemon=True)
        self._child.start()
        theirs.close()  # or the end of the child would not close the pipe
        return self._pipe

    def _end(self) -> None:
        child, pipe, self._child, self._pipe = self._child, self._pipe, None, None
        if pipe is not None:
            pipe.close()
        if child is not None and child.pid is not None:
            child.kill()
            child.join(END_SECS)
            child.close()


def _serve(pipe: Connection, seed_hex: str) -> None:
    """Sign what arrives until the pipe is closed."""
    os.setsid()  # an interrupt from the terminal is for the parent
    gc.disable()  # nothing here refers back to itself
    signer = Signer.from_seed(seed_hex)
    with suppress(EOFError, OSError):
        while True:
            chunks, ttl_secs = _TASK.decode(pipe.recv_bytes())
            pipe.send_bytes(_ENCODER.encode(sign(signer, chunks, ttl_secs)))
