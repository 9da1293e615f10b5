"""An identity provider, or any other HTTP server, on this machine: says what a test tells it to, and remembers."""

import asyncio
import json
from collections import Counter
from types import TracebackType
from typing import Any, Self


class Provider:
    """Answers GET by path; unknown paths are 404, paths in `silent` never get an answer."""

    def __init__(self) -> None:
        self.responses: dict[str, tuple[int, bytes]] = {}
        self.silent: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.news = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def say(self, path: str, value: Any, status: int = 200) -> None:
        self.responses[path] = (status, value if isinstance(value, bytes) else json.dumps(value).encode())

    async def asked_for(self, path: str, times: int = 1) -> None:
        """Return once `path` has been asked for so many times; raises `TimeoutError` after ten seconds."""
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: self.asked[path] >= times)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.cancel()
        if self._links:
            await asyncio.wait(self._links)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await self._answer(head.split()[1].decode(), writer)
        except (OSError, asyncio.IncompleteReadError):
            return  # the client has gone, as it may
        finally:
            self._links.discard(link)
            writer.transport.abort()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        async with self.news:
            self.asked[path] += 1
            self.news.notify_all()
        if path in self.silent:
            await asyncio.Event().wait()
        status, body = self.responses.get(path, (404, b"{}"))
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
