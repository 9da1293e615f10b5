"""The deployment under test, as checks see it: two callers, names of the run's own, and what checks share."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

from aitp_cp_client.wire.times import iso, now
from aitp_cp_conformance import expect
from aitp_cp_conformance.model import Broken, Environment, Options, Skipped
from aitp_cp_conformance.wire import Answer, Caller, Headers, Wire

PAUSE_SECS = 0.05
NO_KEY = "no API key was given"

T = TypeVar("T")
Event = dict[str, Any]


class NoKey(Caller):
    """Stands for the administrator when there is no key: what needs one is skipped."""

    async def call(self, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Answer:
        raise Skipped(NO_KEY)


class Deployment:
    """`public` calls without credentials, `admin` with the API key."""

    def __init__(self, wire: Wire, options: Options, run: str) -> None:
        key = options.api_key
        self.wire = wire
        self.options = options
        self.run = run
        self.gate_open = False
        self.public = Caller(wire, {})
        self.admin = NoKey(wire, {}) if key is None else self.public.with_key(key)
        self._numbers = itertools.count(1)
        self._shared: dict[Callable[..., Any], asyncio.Future[Any]] = {}

    @property
    def namespace(self) -> str:
        return self.run

    def name(self, what: str) -> str:
        """An id or a name that nobody else uses."""
        return f"{self.run}-{what}-{next(self._numbers)}"

    def skip(self, why: str) -> NoReturn:
        raise Skipped(why)

    def require_environment(self, wanted: Environment) -> None:
        """Skip what only holds in one environment, unless the operator said that this is it."""
        if self.options.environment is None:
            raise Skipped(f"holds in {wanted} only: say which this is with --environment")
        if self.options.environment != wanted:
            raise Skipped(f"holds in {wanted} only")

    def require_key(self) -> str:
        """The API key; skips where there is none, or where the gate is open to everybody."""
        if self.options.api_key is None:
            raise Skipped(NO_KEY)
        if self.gate_open:
            raise Skipped("the gate is open: the deployment has no API_KEYS")
        return self.options.api_key

    def admin_credentials(self) -> Headers:
        """The headers of the administrator, for what is not an ordinary call; skips where there is no key."""
        if isinstance(self.admin, NoKey):
            raise Skipped(NO_KEY)
        return self.admin.credentials

    async def shared(self, make: Callable[["Deployment"], Awaitable[T]]) -> T:
        """What `make` gives, made once for all checks; what it raises, every check raises."""
        if make not in self._shared:
            self._shared[make] = asyncio.ensure_future(make(self))
        made: T = await asyncio.shield(self._shared[make])
        return made

    async def report(self, *events: Any) -> dict[str, Any]:
        """Report events as one batch; what was answered."""
        said: dict[str, Any] = (await self.admin.post("/api/events", list(events))).ok()
        return said

    async def history(self, **filters: object) -> list[Event]:
        """Stored events, newest first."""
        return expect.rows(await self.admin.get("/api/events/history", **filters), "events")

    async def stored(self, event: Event, **more: Any) -> Event:
        """Report one event under a run of its own; how it was stored."""
        run = self.name("run")
        said = await self.report({**event, "run_id": run, **more})
        expect.equal(said.get("inserted"), 1, "`inserted` after one new event")
        found = await self.history(runId=run)
        expect.equal(len(found), 1, "the number of stored events of the run")
        return found[0]

    async def eventually(self, look: Callable[[], Awaitable[T | None]], what: str, secs: float = 5) -> T:
        """The first result that is something; raises `Broken` naming `what` did not happen in time."""
        deadline = time.monotonic() + secs
        while True:
            found = await look()
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise Broken(f"{what} did not happen within {secs:g} s")
            await asyncio.sleep(PAUSE_SECS)


def event(kind: str, **members: Any) -> Event:
    """A report of something that happened now."""
    return {"type": kind, "ts": iso(now()), **members}
