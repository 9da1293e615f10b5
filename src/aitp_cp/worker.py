"""Composes what runs in the background: the rooms' jobs, the webhook outbox and dispatcher, the key set refresher."""

from aitp_cp.containment.jobs import JOBS as CONTAINMENT
from aitp_cp.dashboard.jobs import JOBS as DASHBOARD
from aitp_cp.deliveries.dispatcher import Dispatcher
from aitp_cp.deliveries.enqueuer import Enqueuer
from aitp_cp.deliveries.jobs import JOBS as DELIVERIES
from aitp_cp.events.jobs import JOBS as EVENTS
from aitp_cp.jobs import Job, Runner
from aitp_cp.ops.jobs import JOBS as OPS
from aitp_cp.registry.jobs import JOBS as REGISTRY
from aitp_cp.retention.jobs import jobs as retention
from aitp_cp.revocation.jobs import JOBS as REVOCATION
from aitp_cp.revocation.jobs import OWN_JOBS as HOLDERS
from aitp_cp.runtime import Runtime
from aitp_cp.tcts.jobs import JOBS as TCTS
from aitp_cp.truststore.refresher import JwksRefresher

# Every process shows its own figures, also one that runs no jobs.
OWN: tuple[Job, ...] = (*OPS, *HOLDERS)


def shared_jobs(rt: Runtime) -> tuple[Job, ...]:
    """Jobs that replicas share: each is single-flight or divides its work by row locks."""
    return (*REGISTRY, *EVENTS, *TCTS, *REVOCATION, *CONTAINMENT, *DASHBOARD, *DELIVERIES, *retention(rt.settings))


class Background:
    """Started once the application is open; with `shared` it also does the work that replicas divide."""

    def __init__(self, rt: Runtime, *, shared: bool) -> None:
        self._rt = rt
        self._shared = shared
        self._runner = Runner(rt, (*OWN, *(shared_jobs(rt) if shared else ())))

    def start(self) -> None:
        self._runner.start()
        if self._shared:
            self._rt.get(Dispatcher).start()
            self._rt.get(Enqueuer).start()
            self._rt.get(JwksRefresher).start()

    async def stop(self) -> None:
        """Each job finishes the item it is at; the runtime's exit stack stops the rest."""
        await self._runner.stop()
