"""When each background job of this process last ran, how long it took, and how it last failed."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

MAX_ERROR = 100  # characters


class JobRun(msgspec.Struct, frozen=True):
    """The latest run, which took `ms`; `failed_at` and `error` belong to the latest failure."""

    name: str
    ran_at: datetime
    ms: int
    failed_at: datetime | None = None
    error: str | None = None


class JobRuns:
    """One per process; what is new goes to the database with the heartbeat."""

    def __init__(self) -> None:
        self._runs: dict[str, JobRun] = {}
        self._unsaved: dict[str, JobRun] = {}

    def record(self, name: str, ended: datetime, secs: float, failure: Exception | None) -> None:
        """Note a run; of a failure only its code or class, because its text may hold a secret."""
        before = self._runs.get(name)
        failed_at, error = (before.failed_at, before.error) if before else (None, None)
        if failure is not None:
            failed_at, error = ended, str(getattr(failure, "code", type(failure).__name__))[:MAX_ERROR]
        self._runs[name] = self._unsaved[name] = JobRun(name, ended, round(secs * 1000), failed_at, error)

    def unsaved(self) -> Mapping[str, JobRun]:
        return dict(self._unsaved)

    def saved(self, runs: Mapping[str, JobRun]) -> None:
        """Forget what has been written, but not what came meanwhile."""
        for name, run in runs.items():
            if self._unsaved.get(name) is run:
                del self._unsaved[name]
