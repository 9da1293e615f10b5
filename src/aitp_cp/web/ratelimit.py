"""Token buckets in memory, per process (contract, section 4)."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_TRACKED_KEYS = 100_000


@dataclass(frozen=True, slots=True)
class Decision:
    """What one attempt to take a token came to; `reset_at` is when the bucket is full again (epoch seconds)."""

    allowed: bool
    limit: int
    remaining: int
    retry_after_secs: int
    reset_at: int

    def headers(self) -> dict[str, str]:
        shown = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_at),
        }
        if not self.allowed:
            shown["Retry-After"] = str(self.retry_after_secs)
        return shown


class TokenBuckets:
    """Buckets of several kinds; the least recently used keys are forgotten first, so memory stays bounded."""

    def __init__(
        self,
        limits: dict[str, int],
        window_secs: float,
        epoch: Callable[[], float],
        max_keys: int = MAX_TRACKED_KEYS,
    ) -> None:
        self._limits = limits
        self._window = window_secs
        self._epoch = epoch
        self._max_keys = max_keys
        self._levels: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()  # tokens, as of when

    def take(self, bucket: str, key: str, per_min: int | None = None) -> Decision | None:
        """Spend one token of `key`; None when this kind of bucket is disabled (limit 0).

        `per_min` is a limit of this key's own, in requests a minute whatever the window of the others is.
        """
        limit, window = (self._limits[bucket], self._window) if per_min is None else (per_min, 60.0)
        if limit == 0:
            return None
        now = self._epoch()
        rate = limit / window
        tokens, since = self._levels.pop((bucket, key), (float(limit), now))
        tokens = min(float(limit), tokens + max(0.0, now - since) * rate)
        allowed = tokens >= 1.0
        tokens -= 1.0 if allowed else 0.0
        self._levels[(bucket, key)] = (tokens, now)
        if len(self._levels) > self._max_keys:
            self._levels.popitem(last=False)
        wait = 0.0 if allowed else (1.0 - tokens) / rate
        return Decision(
            allowed=allowed,
            limit=limit,
            remaining=int(tokens),
            retry_after_secs=max(1, math.ceil(wait)),
            reset_at=math.ceil(now + (limit - tokens) / rate),
        )

    def give_back(self, bucket: str, key: str) -> None:
        """Return a token that `take` has just spent."""
        level = self._levels.get((bucket, key))
        if level is not None:
            self._levels[(bucket, key)] = (level[0] + 1.0, level[1])

    def __len__(self) -> int:
        return len(self._levels)
