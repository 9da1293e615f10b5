"""Composes the rooms' background jobs."""

from aitp_cp.events.jobs import JOBS as EVENTS
from aitp_cp.jobs import Job, Runner
from aitp_cp.ops.jobs import JOBS as OPS
from aitp_cp.registry.jobs import JOBS as REGISTRY
from aitp_cp.retention.jobs import jobs as retention
from aitp_cp.runtime import Runtime

# Every process shows its own figures, whoever runs the jobs that change something.
OWN: tuple[Job, ...] = OPS


def shared_jobs(rt: Runtime) -> tuple[Job, ...]:
    """Jobs that replicas share: each is single-flight or divides its work by row locks."""
    return (*REGISTRY, *EVENTS, *retention(rt.settings))


def build_runner(rt: Runtime, *, shared: bool) -> Runner:
    return Runner(rt, (*OWN, *(shared_jobs(rt) if shared else ())))
