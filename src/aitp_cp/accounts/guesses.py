"""How often a person may fail to sign in, and how often that is written down."""

from aitp_cp.errors import RateLimited
from aitp_cp.runtime import Runtime
from aitp_cp.web.ratelimit import TokenBuckets

SUBJECT = "login-subject"
PER_HOUR = 10
SOURCE_ROWS_PER_MIN = 1
ROWS_PER_MIN = 60  # from all sources: a caller with many addresses does not fill the audit
HOUR_SECS = 3600.0


class Guesses:
    """Buckets in memory, per process like those of the gate, and switched off with them."""

    def __init__(self, rt: Runtime) -> None:
        self._drops = rt.metrics.rate_limit_drops
        self._enabled = rt.settings.rate_limit_enabled
        self._buckets = TokenBuckets({SUBJECT: PER_HOUR}, HOUR_SECS, lambda: rt.clock().timestamp())
        if self._enabled:
            self._drops.labels(bucket=SUBJECT)

    def spend(self, subject: str) -> None:
        """Count an attempt for `subject`; raises `RateLimited` after ten failures in an hour."""
        decision = self._buckets.take(SUBJECT, subject) if self._enabled else None
        if decision is not None and not decision.allowed:
            self._drops.labels(bucket=SUBJECT).inc()
            raise RateLimited(extra={"bucket": SUBJECT}, headers={"Retry-After": str(decision.retry_after_secs)})

    def give_back(self, subject: str) -> None:
        """Forget an attempt that did not fail."""
        self._buckets.give_back(SUBJECT, subject)

    def is_written(self, source: str) -> bool:
        """Return whether a failure from this address gets an audit row now."""
        of_source = self._buckets.take("source-rows", source, SOURCE_ROWS_PER_MIN)
        if of_source is None or not of_source.allowed:
            return False
        of_all = self._buckets.take("rows", "", ROWS_PER_MIN)
        return of_all is not None and of_all.allowed
