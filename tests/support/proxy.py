"""A TCP proxy in front of a database: what happens on the way to it is up to the test."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

PIECE = 64 * 1024
PATIENCE_SECS = 20

T = TypeVar("T")


class Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.ends = (client, server)
        self.dead = False

    def abort(self) -> None:
        for end in self.ends:
            end.transport.abort()


class Proxy:
    """Listens on 127.0.0.1 and forwards to the server of a DSN, over TCP or a unix socket."""

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._speaking = asyncio.Event()
        self._speaking.set()
        self.left: int | None = None
        self._silent_after: int | None = None
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def dsn(self) -> str:
        user = self._target.netloc.rpartition("@")[0]
        return f"postgresql://{user}@127.0.0.1:{self._port}{self._target.path}?sslmode=disable"

    @property
    def connections(self) -> int:
        return len(self._links)

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """The server is gone: connections break, new ones are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in self._links:
            link.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def stall(self) -> None:
        """The server is silent: connections stay, are even made, and nothing arrives any more."""
        self._speaking.clear()

    def stall_after(self, size: int) -> None:
        """Let so many more bytes come from the server, counted over all connections, then be silent."""
        self._silent_after = size
        if size == 0:
            self.stall()

    def resume(self) -> None:
        self._silent_after = None
        self._speaking.set()

    def freeze(self) -> None:
        """The connections there are go dead without a word, as when a machine vanishes; new ones live."""
        for link in self._links:
            link.dead = True

    def cut_after(self, size: int | None) -> None:
        """Let so many more bytes come from the server, counted over all connections, then break them; None for all."""
        self.left = size

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.resume()
        await self.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError):
                await self._speaking.wait()
                await self._forward(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await self._connect()
        link = Link(writer, back)
        if self._server is None:  # stopped while it was connecting
            link.abort()
            return
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(link, reader, back))
                both.create_task(self._pump(link, there, writer, metered=True))
        finally:
            self._links.discard(link)
            link.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        options = parse_qs(self._target.query)
        if "host" in options:
            return await asyncio.open_unix_connection(f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}")
        return await asyncio.open_connection(self._target.hostname, self._target.port or 5432)

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, metered: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(PIECE):
                if metered and self._silent_after is not None:
                    self._silent_after -= len(data)
                    if self._silent_after <= 0:
                        self.stall()
                await self._speaking.wait()
                passed = data[: self._take(len(data))] if metered else data
                if link.dead:
                    continue
                if writer.is_closing():  # uvloop takes a write to an aborted end for a mistake
                    break
                writer.write(passed)
                await writer.drain()
                if len(passed) < len(data):
                    break
        link.abort()

    def _take(self, size: int) -> int:
        """How many of `size` bytes may pass."""
        if self.left is None:
            return size
        taken = min(size, self.left)
        self.left -= taken
        return taken


@asynccontextmanager
async def proxy(dsn: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """The database's address through a proxy, and what makes all its connections go dead; new ones live."""
    async with Proxy(dsn) as between:
        yield between.dsn, between.freeze


class Between:
    """A proxy that runs in a thread of its own, for tests in whose thread no loop can run."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._proxy = Proxy(dsn)

    @property
    def dsn(self) -> str:
        return self._proxy.dsn

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns on the proxy's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECS)

    def stall(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.stall)

    def resume(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.resume)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._proxy.start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.resume()
        self.run(self._proxy.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
