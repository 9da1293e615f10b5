"""The real application in this process, on a database of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from aitp_cp.app import open_app
from aitp_cp.clock import now
from aitp_cp.deliveries import outbox
from aitp_cp.runtime import Runtime, open_runtime
from aitp_cp.settings import load

API_KEY = "test-key-one-that-production-takes"
OTHER_KEY = "test-key-two-that-production-takes"
SEED = "d184605c938ed00f97868f4e87a83c73505054bd8de5ace327ba65f41b53b690"
SECRET = "an-enrollment-secret-of-32-chars!"

ENVIRONMENT = {
    "CP_ENV": "development",
    "CP_AID_SEED_HEX": SEED,
    "ENROLLMENT_SECRET": SECRET,
    "API_KEYS": f"{API_KEY},{OTHER_KEY}",
    "RATE_LIMIT_ENABLED": "false",
    "DB_POOL_MAX": "10",
}

AUTH = {"Authorization": f"Bearer {API_KEY}"}


class MovableClock:
    """The system's time, moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return now() + self.ahead


@dataclass
class App:
    rt: Runtime
    http: httpx.AsyncClient
    clock: MovableClock

    async def get(self, path: str, **more: Any) -> httpx.Response:
        """GET with a valid API key."""
        return await self.http.get(path, headers={**AUTH, **more.pop("headers", {})}, **more)

    async def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        """POST JSON with a valid API key."""
        return await self.http.post(path, json=body, headers={**AUTH, **more.pop("headers", {})}, **more)

    async def enqueue(self) -> None:
        """Enqueue the deliveries of every event there is, as a process that runs jobs does by itself."""
        assert await outbox.catch_up(self.rt.db, 10)

    async def delete(self, path: str, **more: Any) -> httpx.Response:
        return await self.http.delete(path, headers=AUTH, **more)


@asynccontextmanager
async def running_app(database_url: str, **environment: str) -> AsyncIterator[App]:
    """The application with `environment` over the defaults above; an empty value unsets one."""
    settings = load({**ENVIRONMENT, "DATABASE_URL": database_url, **environment}, command="serve")
    clock = MovableClock()
    async with open_runtime(settings, clock=clock) as rt:
        transport = httpx.ASGITransport(await open_app(rt), client=("192.0.2.1", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://cp.test") as http:
            yield App(rt, http, clock)
