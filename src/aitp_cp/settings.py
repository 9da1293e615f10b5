"""Every environment variable: its name, type, default and meaning (contract, section 15).

The only module that knows pydantic. `.env.example` and `docs/settings.md` are rendered from `Settings`.
"""

import secrets
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from aitp_cp import database_url as urls
from aitp_cp import setting_rules as rules

Command = Literal["serve", "dev", "worker", "tool"]
Network = IPv4Network | IPv6Network

MIN_SECRET_CHARACTERS = 32
FRESH = "`aitp-cp keygen` prints a fresh one"


class SettingsError(Exception):
    """Names every wrong variable in one message, and no value."""


Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
Texts = Annotated[tuple[str, ...], BeforeValidator(rules.listed)]
HostPatterns = Annotated[Texts, AfterValidator(rules.host_patterns)]
KnownHosts = Annotated[Texts, AfterValidator(rules.known_hosts)]
Origins = Annotated[Texts, AfterValidator(rules.origins)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(rules.listed)]
Roles = Annotated[dict[str, Literal["admin", "operator", "auditor"]], BeforeValidator(rules.pairs)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(rules.networks)]


class Settings(BaseSettings):
    """The settings of one process: immutable, and printed without secrets."""

    # Without the defaults, what a validator below gets is never None.
    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, validate_default=False)
    cp_env: Literal["production", "development"] = Field(
        "production", description="`production` or `development`; under `dev` the default is `development`."
    )
    node_env: str | None = Field(None, description="`production` also means production, whatever `CP_ENV` says.")
    host: Annotated[str, AfterValidator(rules.listening_address)] = Field(
        "0.0.0.0",  # noqa: S104 - a container is reached from outside
        description="Address to listen on, `::` for IPv6 and IPv4; `dev` uses `127.0.0.1`.",
    )
    allowed_hosts: KnownHosts | None = Field(
        None,
        description="Host names that requests may use besides loopback and `CP_BASE_URL`, exact or `.suffix`; `*`: "
        "all. Unset: all, except under `dev` and on a loopback address without API keys.",
    )
    port: int = Field(4000, ge=0, le=65535, description="TCP port to listen on.")
    cp_base_url: str = Field("http://localhost:4000", description="Public URL, as in the control plane's manifest.")
    cp_aid_seed_hex: SecretStr | None = Field(
        None,
        description="Ed25519 identity seed, 64 hex digits; required in production, otherwise random at each start.",
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL connection URL; required, except under `dev`, which runs an embedded Postgres."
    )
    database_read_url: SecretStr | None = Field(None, description="URL of a hot standby for lists and exports.")
    read_max_lag_ms: Positive = Field(
        2000, description="Milliseconds the standby may be behind before lists read the primary."
    )
    db_pool_max: Annotated[int, Field(ge=2, le=1000)] = Field(
        20, description="Maximum connections in the pool of one process."
    )
    api_keys: Secrets = Field((), description="Comma-separated keys with every scope, or `sha256:<64 hex>` of them.")
    console_idle_minutes: Annotated[int, Field(ge=1, le=525_600)] = Field(
        30, description="Minutes until an unused session of the console ends; at most a year."
    )
    console_max_hours: Annotated[int, Field(ge=1, le=8760)] = Field(
        12, description="Hours until any session of the console ends; at most a year."
    )
    console_origin: Annotated[str, AfterValidator(rules.origin)] | None = Field(
        None, description="Origin such as `https://console.example`: the console answers there only, the API does not."
    )
    api_keys_allow_weak: bool = Field(
        False, description="Start in production even with API keys that can be guessed; `check` still fails."
    )
    enrollment_secret: SecretStr = Field(
        ..., description="HMAC key of enrollment tokens, at least 32 characters; required."
    )
    cors_origin: Origins | None = Field(
        None, description="Browser origins that may read responses, comma-separated; unset means `*`."
    )
    revocation_list_ttl_secs: Positive = Field(3600, description="Seconds until a signed revocation list expires.")
    revocation_max_staleness_secs: Positive = Field(
        300, description="Seconds the last good list is served for while the database is unreachable."
    )
    webhook_retry_attempts: Positive = Field(6, description="Attempts until a delivery is marked as failed.")
    webhook_breaker_failure_threshold: Positive = Field(
        5, description="Consecutive failures that open a webhook's circuit breaker."
    )
    webhook_breaker_reset_ms: Positive = Field(60_000, description="Milliseconds until an open breaker sends a probe.")
    webhooks_max: Positive = Field(
        100, description="Maximum number of webhooks; each deliverable event adds a row for each of them."
    )
    webhook_url_allowlist: HostPatterns = Field(
        (), description="Hosts webhooks may use, exact or `.suffix`; empty allows all."
    )
    webhook_allowed_cidrs: Networks = Field((), description="Private networks that webhooks and key sets may use.")
    max_sse_connections: Count = Field(500, description="Maximum open event streams in one process.")
    sse_per_caller: Positive | None = Field(
        None,
        description="Maximum event streams of one API key in one process; unset means half of `MAX_SSE_CONNECTIONS`.",
    )
    max_connections: Positive = Field(
        4000, description="Maximum open connections in one process; at the limit, a new one replaces an idle one."
    )
    max_unsent_mib: Positive = Field(
        64, description="MiB of responses that clients of one process have not read; above it, the slowest are cut."
    )
    registry_cache_mib: Count = Field(
        64,
        description="MiB of agents, manifests and lists that one process caches for 5 s; 0 disables.",
    )
    keep_alive_ms: Positive = Field(
        75_000, description="Milliseconds until an idle connection is closed; set it higher than in your proxy."
    )
    max_audit_events_memory: Count = Field(500, description="Number of newest events kept in memory for new streams.")
    sse_heartbeat_ms: Positive = Field(
        15_000, description="Milliseconds without an event until a stream sends a comment."
    )
    console_enabled: bool = Field(True, description="Whether the web console is served at `/console/`.")
    console_streams: Count = Field(
        64, description="Maximum live console pages in one process; further ones poll every 10 s."
    )
    event_token_redaction: bool = Field(True, description="Replace raw tokens in reported events with their SHA-256.")
    observed_artifact_verification: Literal["off", "warn", "strict"] = Field(
        "warn", description="Check tokens in reports: `off`, `warn` shows verdicts, `strict` stores only verified ones."
    )
    telemetry: Literal["open", "warn", "require"] = Field(
        "open", description="Reports with API keys: `open` takes them, `warn` counts them per agent, `require` refuses."
    )
    enrolment: Literal["open", "proof"] = Field(
        "open", description="`proof` registers only agents that send an agent token with their manifest."
    )
    rate_limit_enabled: bool = Field(True, description="Enable rate limits.")
    rate_limit_enrollment_per_ip_min: Count = Field(5, description="Enrolments per window and address; 0 disables.")
    rate_limit_public_per_ip_min: Count = Field(60, description="Public requests per window and address; 0 disables.")
    rate_limit_api_key_per_min: Count = Field(600, description="Requests per window and API key; 0 disables.")
    rate_limit_agent_per_min: Count = Field(
        600, description="Requests per window and agent that reports for itself; 0 disables."
    )
    rate_limit_agent_auth_per_ip_min: Count = Field(
        60, description="Challenges and agent tokens per window and address; 0 disables."
    )
    rate_limit_console_per_min: Count = Field(
        1200, description="Requests per window and session of the console; 0 disables."
    )
    rate_limit_login_per_ip_min: Count = Field(
        5, description="Attempts to sign in to the console per window and address; 0 disables."
    )
    rate_limit_window_ms: Positive = Field(60_000, description="Milliseconds until an empty bucket is full again.")
    client_ip_header: Annotated[str, AfterValidator(rules.header_name)] | None = Field(
        None, description="Header that your edge sets to the client's address."
    )
    trusted_proxy_hops: Annotated[int, Field(ge=0, le=100)] = Field(
        0, description="Proxies that append to X-Forwarded-For; 0 trusts none."
    )
    retention_enabled: bool = Field(True, description="Delete old rows.")
    retention_interval_ms: Positive = Field(1_800_000, description="Milliseconds between sweeps.")
    retention_batch_limit: Positive = Field(10_000, description="Maximum rows deleted per table and sweep.")
    audit_events_ttl_days: Count = Field(90, description="Days events are kept; 0 keeps them for ever.")
    webhook_delivery_ttl_days: Count = Field(
        14, description="Days finished deliveries are kept; 0 keeps them for ever."
    )
    admin_audit_ttl_days: Count = Field(365, description="Days admin audit rows are kept; 0 keeps them for ever.")
    idempotency_key_ttl_days: Count = Field(7, description="Days stored responses are kept; 0 keeps them for ever.")
    expired_agent_grace_days: Count = Field(30, description="Days deregistered agents are kept; 0 keeps them for ever.")
    jwks_refresh_enabled: bool = Field(True, description="Refresh the key sets of trust anchors.")
    jwks_refresh_interval_ms: Positive = Field(900_000, description="Milliseconds between refreshes of a key set.")
    jwks_fetch_timeout_ms: Positive = Field(10_000, description="Timeout of one fetch of a key set, in milliseconds.")
    drain_window_ms: Count = Field(
        5000, description="Milliseconds requests are still served after SIGTERM; under `dev` the default is 0."
    )
    log_level: Literal["trace", "debug", "info", "warn", "error", "fatal"] = Field(
        "info", description="Lowest severity that is logged."
    )
    oidc_issuer: str | None = Field(
        None, description="Issuer of the OpenID provider for single sign-on to the console, as it writes itself."
    )
    oidc_client_id: str | None = Field(None, description="Client id of the console at the provider.")
    oidc_client_secret: SecretStr | None = Field(
        None, description="Client secret of the console at the provider; unset for a public client."
    )
    oidc_scopes: str = Field("openid email profile groups", description="Scopes to ask the provider for.")
    oidc_role_claim: str = Field("groups", description="Claim that lists the groups of a person.")
    oidc_role_map: Roles = Field({}, description="Comma-separated `group=role`; people in no such group are refused.")
    otel_enabled: bool = Field(False, description="Export traces.")
    otel_service_name: str = Field("aitp-control-plane", description="Service name on exported traces.")
    otel_exporter_otlp_endpoint: str | None = Field(None, description="OTLP/HTTP endpoint; `/v1/traces` is appended.")
    otel_exporter_otlp_traces_endpoint: str | None = Field(
        None, description="OTLP/HTTP endpoint for traces, used unchanged."
    )

    @property
    def dsn(self) -> str:
        """`DATABASE_URL`, once it is known that there is one."""
        assert self.database_url is not None
        return self.database_url.get_secret_value()

    @property
    def streams_per_caller(self) -> int:
        return self.sse_per_caller or max(1, self.max_sse_connections // 2)

    @property
    def host_in_url(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def production(self) -> bool:
        return self.cp_env == "production" or self.node_env == "production"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read only what `load` passes in, no environment variable and no file."""
        return (init_settings,)

    @field_validator(
        "cp_env", "node_env", "log_level", "observed_artifact_verification", "telemetry", "enrolment", mode="before"
    )
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("cp_base_url")
    @classmethod
    def _absolute_url(cls, url: str) -> str:
        if not rules.is_http_url(url) or set("@?#") & set(url):
            raise ValueError("must be an absolute http or https URL without credentials, query or fragment")
        return url.rstrip("/")

    @field_validator("oidc_issuer", "otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint")
    @classmethod
    def _http_url(cls, url: str) -> str:
        if not rules.is_http_url(url):
            raise ValueError("must be an absolute http or https URL")
        return url

    @field_validator("cp_aid_seed_hex")
    @classmethod
    def _seed(cls, seed: SecretStr) -> SecretStr:
        if not rules.HEX_64.match(seed.get_secret_value()):
            raise ValueError("must be 64 hex digits")
        return seed

    @field_validator("api_keys")
    @classmethod
    def _digests(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            rules.key_digest(key.get_secret_value())
        return keys

    @field_validator("enrollment_secret")
    @classmethod
    def _long_secret(cls, secret: SecretStr) -> SecretStr:
        if len(secret.get_secret_value()) < MIN_SECRET_CHARACTERS:
            raise ValueError(f"must have at least {MIN_SECRET_CHARACTERS} characters")
        return secret

    @field_validator("database_url", "database_read_url")
    @classmethod
    def _postgres_url(cls, url: SecretStr) -> SecretStr:
        urls.read(url.get_secret_value())
        return url


def load(environ: Mapping[str, str], *, command: Command) -> Settings:
    """Read every variable, or the file that `<NAME>_FILE` names. Raise `SettingsError` with all problems."""
    problems: list[str] = []
    values: dict[str, Any] = dict(_defaults(command))
    for field in Settings.model_fields:
        value = rules.read_variable(environ, field.upper(), problems)
        if value is not None:
            values[field] = value
    reported = {problem.partition(":")[0].removesuffix("_FILE") for problem in problems}
    problems += [f"{name}: is required" for name in _missing(values, command) if name not in reported]
    try:
        settings = Settings(**values)
    except ValidationError as invalid:
        problems += [
            _described(error)
            for error in invalid.errors(include_url=False, include_input=False)
            if error["type"] != "missing" or str(error["loc"][0]).upper() not in reported
        ]
    else:
        problems += _weak_secrets(settings) if settings.production and command != "tool" else ()
        problems += rules.contradictions(
            settings.cp_base_url, settings.console_origin, settings.oidc_issuer, settings.oidc_client_id
        )
    if problems:
        raise SettingsError("these variables are wrong:\n" + "\n".join(f"  {problem}" for problem in sorted(problems)))
    return settings


def _weak_secrets(settings: Settings) -> Iterator[str]:
    """Yield a message for each secret that can be guessed; production does not start with one."""
    seed, enrollment = settings.cp_aid_seed_hex, settings.enrollment_secret.get_secret_value()
    if seed is not None and (reason := rules.seed_weakness(seed.get_secret_value())):
        yield f"CP_AID_SEED_HEX: {reason}; {FRESH}"
    if reason := rules.weakness(enrollment):
        yield f"ENROLLMENT_SECRET: {reason}; {FRESH}"
    if not settings.api_keys_allow_weak and (reason := weak_keys(settings)):
        yield f"API_KEYS: {reason}; {FRESH}, or set API_KEYS_ALLOW_WEAK=true until the callers have new ones"


def weak_keys(settings: Settings) -> str | None:
    """Return why a key of `API_KEYS` can be guessed, or None."""
    return rules.weak_keys([key.get_secret_value() for key in settings.api_keys])


def _defaults(command: Command) -> dict[str, Any]:
    if command == "dev":
        return {"cp_env": "development", "host": "127.0.0.1", "drain_window_ms": 0, "allowed_hosts": ()}
    if command == "tool":  # a migration job needs the database and should hold no other secret
        return {"enrollment_secret": secrets.token_hex(32)}
    return {}


def _missing(values: Mapping[str, Any], command: Command) -> list[str]:
    """Return the missing variables that only some commands or environments require."""
    environments = (values.get("cp_env", "production"), values.get("node_env") or "")
    production = "production" in [name.lower() for name in environments]
    missing = []
    if command != "dev" and "database_url" not in values:
        missing.append("DATABASE_URL")
    if production and command != "tool" and "cp_aid_seed_hex" not in values:
        missing.append("CP_AID_SEED_HEX")
    return missing


def _described(error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return str(message)
    if error["type"] == "missing":
        message = "is required"
    return f"{str(error['loc'][0]).upper()}: {message[:1].lower()}{message[1:]}"
