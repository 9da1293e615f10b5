"""Every metric of the process, in one list (contract, section 14)."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from aitp_cp.telemetry import shared

PREFIX = "aitp_control_plane_"
SCRAPE = "/api/metrics"
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Across = Literal["sum", "livesum", "livemin", "max", "livemax", "livemostrecent"]


class Metrics:
    """One registry per process; names are fixed, because dashboards exist."""

    def __init__(self) -> None:
        shared.choose_values()
        # A creation time per series would double the size of a scrape.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves this one untyped
        self.registry = CollectorRegistry()
        self.http_seconds = self._histogram(
            "http_request_duration_seconds", "request latency", "route", "method", "status"
        )
        self.answered = 0  # requests, not counting scrapes
        # By route, method and class of status: a lookup by labels costs more than an observation.
        self._http_series: dict[tuple[str, str, int], Histogram] = {}
        # Gauges, because dashboards expect these names without the `_total` that the library adds to counters.
        self.rate_limit_drops = self._gauge("rate_limit_drops", "requests refused by a token bucket", "bucket")
        self.enroll_failures = self._gauge("enroll_verification_failures", "manifests refused at enrolment", "code")
        self.events_dropped = self._counter("events_dropped", "reported events refused one by one")
        self.events_duplicate = self._counter("events_duplicate", "reported events that were stored already")
        self.token_verdicts = self._counter(
            "token_verdicts", "tokens in reported batches, by what they are worth", "verdict"
        )
        self.ingest_waiting_bytes = self._part("ingest_waiting_bytes", "bytes of event bodies read and not yet stored")
        self.admin_audit_insert_failures = self._gauge(
            "admin_audit_insert_failures", "audit rows that could not be written"
        )
        self.agents_active = self._latest("agents_active", "agents in discovery")
        self.agents_expired = self._latest("agents_expired", "agents past their manifest's expiry")
        self.sessions_total = self._latest("sessions_total", "handshake sessions; an estimate above 100,000")
        self.webhook_deliveries = self._latest("webhook_deliveries", "deliveries, up to 100,000 each", "status")
        self.webhook_breakers = self._latest("webhook_circuit_breaker_open", "webhooks by breaker state", "state")
        self.webhook_outbox_lag = self._latest(
            "webhook_outbox_lag_events", "events in the log whose deliveries are not enqueued yet"
        )
        self.api_keys = self._latest("api_keys", "API keys in the database, up to 100,000", "state")
        self.console_sessions = self._latest("console_sessions", "live sessions of the console, up to 100,000")
        self.console_logins = self._counter("console_logins", "attempts to sign in to the console", "method", "result")
        self.webhook_attempt_seconds = self._histogram(
            "webhook_attempt_duration_seconds", "latency of attempts to deliver; their count", "outcome"
        )
        self.audit_events = self._gauge(
            "audit_events", "events in the log since retention or start", "type", across="max"
        )
        self.retention_rows = self._counter("retention_rows_deleted", "rows swept", "table")
        self._add_database()
        self._add_streams()
        self.answer_cache_bytes = self._part("answer_cache_bytes", "bytes of responses kept in memory", "cache")
        self.log_lines_dropped = self._counter("log_lines_dropped", "log lines that standard output did not take")
        self.job_last_success = self._gauge(
            "job_last_success_timestamp_seconds", "when a job last ended well", "job", across="max"
        )

    def _add_database(self) -> None:
        self.pool_in_use = self._part("db_pool_in_use", "connections that a request or job holds")
        self.pool_max = self._part("db_pool_max", "connections that the pool may have")
        self.db_up = self._gauge(
            "db_up",
            "1 when the last database ping came back in time from a database that takes writes",
            across="livemin",
        )
        self.clock_offset = self._latest("clock_offset_seconds", "this process's clock minus the database's")
        self.read_lag = self._gauge(
            "db_read_lag_seconds",
            "since the read standby last had everything; 0 without `DATABASE_READ_URL`",
            across="livemax",
        )
        self.read_fallbacks = self._counter(
            "db_read_fallbacks", "reads that the primary answered instead of the read standby", "reason"
        )

    def _add_streams(self) -> None:
        """Event streams and what follows the log, connections, and the console."""
        self.sse_open = self._part("sse_streams_open", "event streams open now")
        self.sse_opened = self._counter("sse_streams_opened", "event streams opened")
        self.sse_rejected = self._counter("sse_streams_rejected", "event streams refused at a limit")
        self.backlog_dropped = self._gauge(
            "event_backlog_dropped", "events that memory had no room for; streams read on"
        )
        self.tail_lag = self._gauge(
            "tail_lag_seconds", "since this process had last read the log to its end", across="livemax"
        )
        self.tail_resets = self._counter("tail_resets", "detected replacements of the log: a restore, a failover")
        self.connections_open = self._part("http_connections_open", "connections of clients open now")
        self.unsent_bytes = self._part("http_unsent_bytes", "bytes of answers that clients have not taken yet")
        self.requests_queued = self._part("http_requests_queued", "requests sent ahead of the answers due before them")
        self.connections_cut = self._counter("http_connections_cut", "connections closed by a bound", "reason")
        self.console_page = self._histogram("console_page_seconds", "rendering of pages of the console", "page")
        self.console_streams = self._part("console_streams_open", "browsers that follow the console live")
        self.console_csp_reports = self._counter(
            "console_csp_reports", "reports of browsers that the content policy stopped something", "directive"
        )
        self.revocation_list_age = self._gauge(
            "revocation_list_age_seconds",
            "since the database last agreed with the served list, or since the start",
            across="livemax",
        )
        self.revocation_unsigned_entries = self._latest(
            "revocation_unsigned_entries", "revoked tokens that the list cannot hold: no v4 UUIDs"
        )
        self.containment_confirmed = self._latest(
            "containment_confirmed_ratio", "peers that hold the list, of those exposed to the newest open containment"
        )
        self.containment_seconds = self._latest(
            "containment_confirmed_seconds",
            "from the newest open containment until this share was confirmed; 0 until then",
            "share",
        )

    def observe_request(self, route: str, method: str, hundreds: int, seconds: float) -> None:
        """Record a request; `hundreds` is the first digit of its status."""
        key = (route, method, hundreds)
        series = self._http_series.get(key)
        if series is None:
            series = self._http_series[key] = self.http_seconds.labels(route, method, f"{hundreds}xx")
        series.observe(seconds)
        self.answered += route != SCRAPE

    def scraped(self) -> CollectorRegistry:
        """Return the registry of a scrape: of this process, or of all processes that share its port."""
        processes = shared.all_processes()
        if processes is None:
            return self.registry
        registry = CollectorRegistry()
        registry.register(processes)
        return registry

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, help, labels, registry=self.registry)

    def _latest(self, name: str, help: str, *labels: str) -> Gauge:
        """Make a gauge that each process reads from the database: of those that share a port the latest counts."""
        return self._gauge(name, help, *labels, across="livemostrecent")

    def _part(self, name: str, help: str, *labels: str) -> Gauge:
        """Make a gauge of what this process has: those that share a port are added up while they live."""
        return self._gauge(name, help, *labels, across="livesum")

    def _gauge(self, name: str, help: str, *labels: str, across: Across = "sum") -> Gauge:
        """Make a gauge; `across` merges the values of processes that share a port."""
        return Gauge(PREFIX + name, help, labels, registry=self.registry, multiprocess_mode=across)

    def _histogram(self, name: str, help: str, *labels: str) -> Histogram:
        return Histogram(PREFIX + name, help, labels, registry=self.registry, buckets=LATENCY_BUCKETS)
