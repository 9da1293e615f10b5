"""The kit for background work: a job is a function beside its schedule."""

from aitp_cp.jobs.runner import Job, Runner

__all__ = ["Job", "Runner"]
