"""Everything one process holds open, from settings to the pool, in one place."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

from aitp_cp.clock import Clock, now
from aitp_cp.db import Database
from aitp_cp.db.standby import Standby
from aitp_cp.protocol.signer import Signer
from aitp_cp.settings import Settings
from aitp_cp.telemetry.job_runs import JobRuns
from aitp_cp.telemetry.metrics import Metrics
from aitp_cp.telemetry.spans import OFF, Tracer

T = TypeVar("T")


class Runtime:
    """Handed to every handler and job; upper rooms keep their per-process parts in it by type."""

    def __init__(self, settings: Settings, *, clock: Clock, db: Database, signer: Signer, metrics: Metrics) -> None:
        self.id = uuid4()  # of this process among the replicas
        self.settings = settings
        self.clock = clock
        self.db = db
        self.signer = signer
        self.metrics = metrics
        self.job_runs = JobRuns()
        self.tracer: Tracer = OFF
        self.draining = False
        self.stack = AsyncExitStack()
        self._parts: dict[type[Any], Any] = {}

    def add(self, part: Any) -> None:
        """Keep a room's per-process object, found again by its type."""
        self._parts[type(part)] = part

    def get(self, kind: type[T]) -> T:
        part: T = self._parts[kind]
        return part


def _standby(settings: Settings, metrics: Metrics, tracer: Tracer) -> Standby | None:
    if settings.database_read_url is None:
        return None
    return Standby(
        settings.database_read_url.get_secret_value(),
        max_size=settings.db_pool_max,
        max_lag_secs=settings.read_max_lag_ms / 1000,
        on_fallback=lambda reason: metrics.read_fallbacks.labels(reason=reason).inc(),
        on_statement=tracer.statement,
    )


@asynccontextmanager
async def open_runtime(settings: Settings, *, clock: Clock = now, tracer: Tracer = OFF) -> AsyncIterator[Runtime]:
    """Open the pool and load the identity; raises `DatabaseUnavailable`. Closes in reverse order."""
    seed = settings.cp_aid_seed_hex
    signer = Signer.from_seed(seed.get_secret_value()) if seed else Signer.generate()
    metrics = Metrics()
    db = Database(
        settings.dsn,
        max_size=settings.db_pool_max,
        on_statement=tracer.statement,
        standby=_standby(settings, metrics, tracer),
    )
    rt = Runtime(settings, clock=clock, db=db, signer=signer, metrics=metrics)
    rt.tracer = tracer
    async with rt.stack:
        await db.open()
        rt.stack.push_async_callback(db.close)
        yield rt
