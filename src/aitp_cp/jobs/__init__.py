"""The kit for background work: periodic jobs, batches, and loops that work off a leased queue."""

from aitp_cp.jobs.batches import in_batches, single_flight
from aitp_cp.jobs.leased import Done, LeasedLoop
from aitp_cp.jobs.loop import Loop
from aitp_cp.jobs.runner import Job, Runner

__all__ = ["Done", "Job", "LeasedLoop", "Loop", "Runner", "in_batches", "single_flight"]
