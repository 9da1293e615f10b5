"""Pages of the console on a long log, and fifty consoles that follow it live."""

import asyncio
import html
import itertools
import random
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from bench.fleet import batches, report
from bench.load import HOST, Outcome, drive, request
from bench.report import Row, Target, http_row
from bench.servers import Running, serving
from bench.streams import Arrivals, opened
from tests.support.app import API_KEY

CONSOLES = 50
EVENTS_PER_SEC = 100
REFRESH_SECS = 1.15  # of a region that changes all the time: a second, and up to 0.3 s at random
SECONDS = 4.0
PAGES = ("/console/", "/console/events", "/console/sessions", "/console/agents")
NEWER = re.compile(rb'data-next="([^"]+)"')
FORM = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
SETTINGS = {"CP_BASE_URL": "https://bench", "CONSOLE_STREAMS": str(CONSOLES)}  # cookies are kept over https alone


async def measure(dsn: str, log: Path, aids: Sequence[str]) -> AsyncIterator[Row]:
    with serving(dsn, log, **SETTINGS) as server:
        cookie = await sign_in(server)
        for page in (*PAGES, f"/console/agents/{quote(aids[0])}"):
            pages = itertools.repeat(request("GET", page, cookie=cookie))
            await drive(server.port, pages, connections=1, seconds=0.3)
            before = server.cpu_secs()
            outcome = await drive(server.port, pages, connections=1, seconds=SECONDS / 2)
            shown = page.replace(quote(aids[0]), "{aid}")
            yield http_row(f"`GET {shown}`, 1 M events", outcome, Target(p99_ms=50), server.cpu_secs() - before)
        yield await consoles(server, [await sign_in(server) for _ in range(CONSOLES)], aids)


async def sign_in(server: Running) -> str:
    """Return the cookie of a session."""
    reader, writer = await asyncio.open_connection(HOST, server.port)
    body = f"key={API_KEY}".encode()
    head = "\r\n".join(f"{name}: {value}" for name, value in {**FORM, "content-length": str(len(body))}.items())
    writer.write(f"POST /console/login HTTP/1.1\r\nhost: bench\r\n{head}\r\n\r\n".encode() + body)
    response = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    cookies = re.findall(r"(?i)^set-cookie: ([^;]+)", response, re.MULTILINE)
    assert cookies, response
    return "; ".join(cookies)


async def consoles(server: Running, cookies: Sequence[str], aids: Sequence[str]) -> Row:
    """Each holds the live stream and asks for its list whenever it has changed, at most about once a second."""
    outcome, arrivals = Outcome(), Arrivals()
    async with opened(server, [request("GET", "/console/live", cookie=cookie) for cookie in cookies], arrivals):
        before, began = server.cpu_secs(), time.perf_counter()
        reports = map(report, batches(aids, 1, int(EVENTS_PER_SEC * SECONDS) + 100))
        await asyncio.gather(
            _paced(server, reports, EVENTS_PER_SEC),
            *(_refreshing(server, cookie, outcome) for cookie in cookies),
        )
        outcome.seconds = time.perf_counter() - began
        spent = server.cpu_secs() - before
    cores = spent / outcome.seconds
    what = f"{CONSOLES} consoles on the events, {EVENTS_PER_SEC} events/s"
    return replace(http_row(what, outcome, Target(p99_ms=250), spent), cpu_us=None, note=f"{cores:.2f} cores")


async def _paced(server: Running, requests: "itertools.chain[bytes] | map[bytes]", rate: float) -> None:
    for number in range(int(rate * SECONDS / 10)):
        await drive(server.port, itertools.islice(requests, 10), connections=2, seconds=1)
        await asyncio.sleep(max(0.0, 10 / rate - 0.02) if number else 0)


async def _refreshing(server: Running, cookie: str, outcome: Outcome) -> None:
    """One browser's requests: the page, and then again and again what is newer."""
    deadline = time.perf_counter() + SECONDS
    await asyncio.sleep(random.random())
    page = request("GET", "/console/events", cookie=cookie)
    newer = NEWER.search((await drive(server.port, iter([page]), connections=1, seconds=1)).body)
    assert newer, "the page does not say where what is newer is"
    while time.perf_counter() < deadline:
        await asyncio.sleep(REFRESH_SECS)
        ask = request("GET", html.unescape(newer[1].decode()), cookie=cookie, x_fragment="rows")
        response = await drive(server.port, iter([ask]), connections=1, seconds=1)
        newer = NEWER.search(response.body) or newer
        outcome.add(response)
