"""The deployment under test: two callers, unique names, and fixtures that checks share."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn, TypeVar

from aitp_cp_client.wire.times import iso, now
from aitp_cp_conformance import expect
from aitp_cp_conformance.model import Broken, Environment, Options, Skipped
from aitp_cp_conformance.wire import Caller, Headers, Response, Wire

PAUSE_SECS = 0.05
METRICS = "/api/metrics"
NO_KEY = "needs an API key"

T = TypeVar("T")
Event = dict[str, Any]


class NoKey(Caller):
    """The administrator without an API key: every call skips the check."""

    async def call(self, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Response:
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
        """Return a unique id or name."""
        return f"{self.run}-{what}-{next(self._numbers)}"

    def skip(self, why: str) -> NoReturn:
        raise Skipped(why)

    def require_environment(self, environment: Environment) -> None:
        """Skip the check unless --environment names this environment."""
        if self.options.environment is None:
            raise Skipped(f"holds in {environment} only: name the environment with --environment")
        if self.options.environment != environment:
            raise Skipped(f"holds in {environment} only")

    def require_key(self) -> str:
        """Return the API key; skip the check without one, or if the gate is open."""
        if self.options.api_key is None:
            raise Skipped(NO_KEY)
        if self.gate_open:
            raise Skipped("the gate is open: the deployment has no API_KEYS")
        return self.options.api_key

    def reachable(self, paths: Iterable[str]) -> list[str]:
        """Return the paths, without the metrics if --no-metrics says that a proxy denies them."""
        return [path for path in paths if path != METRICS or self.options.metrics]

    async def scrape(self) -> Response:
        """Return the response to a scrape; skip the check with --no-metrics."""
        if not self.options.metrics:
            raise Skipped("metrics are denied here, says --no-metrics: check a replica directly")
        return await self.public.get(METRICS)

    async def refuses_strangers(self, method: str, path: str, body: Any = None) -> None:
        """Expect 401 without a key; where the gate is open, nobody is a stranger."""
        if not self.gate_open:
            expect.error(await self.public.call(method, path, body), 401, "INVALID_API_KEY")

    def admin_credentials(self) -> Headers:
        """Return the administrator's headers; skip the check without an API key."""
        if isinstance(self.admin, NoKey):
            raise Skipped(NO_KEY)
        return self.admin.credentials

    async def shared(self, make: Callable[["Deployment"], Awaitable[T]]) -> T:
        """Return what `make` returns, or raise what it raises; it runs once for all checks."""
        if make not in self._shared:
            self._shared[make] = asyncio.ensure_future(make(self))
        made: T = await asyncio.shield(self._shared[make])
        return made

    async def report(self, *events: Any) -> dict[str, Any]:
        """Report events as one batch; return the response body."""
        body: dict[str, Any] = (await self.admin.post("/api/events", list(events))).ok()
        return body

    async def history(self, **filters: object) -> list[Event]:
        """Return stored events, newest first."""
        return expect.rows(await self.admin.get("/api/events/history", **filters), "events")

    async def audit_actions(self, target: str) -> list[str]:
        """Return the audited actions on this target, newest first."""
        return [row["action"] for row in await self.audit_rows(target)]

    async def audit_rows(self, target: str) -> list[dict[str, Any]]:
        """Return the audit rows of this target among the newest 1000, newest first."""
        rows = expect.rows(await self.admin.get("/api/audit", limit=1000), "entries")
        return [row for row in rows if row["targetId"] == target]

    async def stored(self, event: Event, **more: Any) -> Event:
        """Report one event under a unique run; return the stored event."""
        run = self.name("run")
        body = await self.report({**event, "run_id": run, **more})
        expect.equal(body.get("inserted"), 1, "`inserted` after one new event")
        events = await self.history(runId=run)
        expect.equal(len(events), 1, "the number of stored events of the run")
        return events[0]

    async def eventually(self, look: Callable[[], Awaitable[T | None]], what: str, secs: float = 5) -> T:
        """Call `look` until it returns a value; raise `Broken` naming `what` after `secs`."""
        deadline = time.monotonic() + secs
        while True:
            value = await look()
            if value is not None:
                return value
            if time.monotonic() > deadline:
                raise Broken(f"{what} did not happen within {secs:g} s")
            await asyncio.sleep(PAUSE_SECS)


def event(kind: str, **members: Any) -> Event:
    """Return an event that happened now."""
    return {"type": kind, "ts": iso(now()), **members}
