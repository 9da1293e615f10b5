"""The gauges that need the database or the log (contract, section 14)."""

from collections import Counter
from collections.abc import Sequence

from aitp_cp.accounts import store as accounts
from aitp_cp.accounts.service import Accounts
from aitp_cp.db import server_time
from aitp_cp.deliveries import outbox
from aitp_cp.deliveries import store as deliveries
from aitp_cp.events import counts as events
from aitp_cp.events.model import Event
from aitp_cp.events.tail import Tail
from aitp_cp.keys import store as keys
from aitp_cp.protocol.vocabulary import VOCABULARY
from aitp_cp.registry import store as registry
from aitp_cp.runtime import Runtime
from aitp_cp.sessions import store as sessions
from aitp_cp.truststore import store as truststore
from aitp_cp.webhooks import store as webhooks

LIMIT = 100_000  # each count ends here, so that none grows with its table
MAX_LABELS = 200
MAX_TYPES = MAX_LABELS - len(VOCABULARY)  # other types with a label of their own; reporters cannot use up the rest
MAX_NAMESPACES = 200  # that can be chosen from a list
OTHER = "other"
BREAKER_STATES = ("closed", "open", "half_open")


class Figures:
    """Counts events as the tail publishes them, and refreshes the rest in the background."""

    def __init__(self, rt: Runtime) -> None:
        self.clock_offset_secs: float | None = None  # this process's clock less the database's
        self.namespaces: frozenset[str] = frozenset()  # in use, as far as the console offers them to choose from
        self._rt = rt
        self._types: set[str] = set()
        self._counted_history = False

    def on_events(self, page: Sequence[Event]) -> None:
        """Called by the tail with each page of new events."""
        self._count(Counter(event.type for event in page))

    def on_reset(self) -> None:
        """Called by the tail: the log was replaced. Counts stay; history that is not counted yet ends here."""
        if not self._counted_history:
            self._rt.get(Tail).begun_at = self._rt.get(Tail).last

    def show_pool(self) -> None:
        """Needs no connection, so an exhausted pool shows too."""
        self._rt.metrics.pool_in_use.set(self._rt.db.in_use)
        self._rt.metrics.pool_max.set(self._rt.db.max_size)
        if self._rt.db.standby is not None:
            self._rt.metrics.read_lag.set(self._rt.db.standby.lag_secs)

    async def refresh(self) -> None:
        """Read the bounded counts on one connection; raises `DatabaseUnavailable`."""
        metrics = self._rt.metrics
        async with self._rt.db.connection() as conn:
            if not self._counted_history:
                up_to = self._rt.get(Tail).begun_at
                self._count(Counter(await events.count_by_type(conn, up_to, LIMIT)))
                self._counted_history = True
            active, expired = await registry.count_by_status(conn, LIMIT)
            metrics.agents_active.set(active)
            metrics.agents_expired.set(expired)
            metrics.sessions_total.set(await sessions.estimate(conn, LIMIT))
            for status, count in (await deliveries.count_by_status(conn, LIMIT)).items():
                metrics.webhook_deliveries.labels(status=status).set(count)
            breakers = await webhooks.count_breakers(conn)
            for state in BREAKER_STATES:
                metrics.webhook_breakers.labels(state=state).set(breakers.get(state, 0))
            for state, count in (await keys.count_by_state(conn, self._rt.clock(), LIMIT)).items():
                metrics.api_keys.labels(state=state).set(count)
            trusted = await truststore.namespaces(conn, MAX_NAMESPACES)
            self.namespaces = frozenset(trusted.union(await registry.namespaces(conn, MAX_NAMESPACES)))
            now = self._rt.clock()
            live = await accounts.count_live(conn, now, self._rt.get(Accounts).seen_after(now), LIMIT)
            metrics.console_sessions.set(live)
            metrics.webhook_outbox_lag.set(await outbox.lag(conn))
            self.clock_offset_secs = (self._rt.clock() - await server_time(conn)).total_seconds()
            metrics.clock_offset.set(self.clock_offset_secs)

    def _count(self, by_type: Counter[str]) -> None:
        for name, count in by_type.most_common():  # so that frequent types get a label, not the first ones
            self._rt.metrics.audit_events.labels(type=self._label(name)).inc(count)

    def _label(self, name: str) -> str:
        """Return the label of a type; reporters choose types, so their number and characters are bounded."""
        if name not in VOCABULARY and name not in self._types:
            if len(self._types) >= MAX_TYPES:
                return OTHER
            self._types.add(name)
        return name.replace("}", ")").replace("{", "(")
