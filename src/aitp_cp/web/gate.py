"""Authentication, scopes and rate limits, before a request reaches its endpoint."""

import hashlib
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import Request

from aitp_cp.errors import (
    AgentTokenInvalid,
    ApiKeyExpired,
    ApiKeyRevoked,
    AppError,
    DatabaseUnavailable,
    InvalidApiKey,
    RateLimited,
    ScopeMissing,
    ServerMisconfigured,
    SignInRequired,
)
from aitp_cp.protocol import http_signature
from aitp_cp.protocol.agent_token import is_agent_token
from aitp_cp.protocol.http_signature import SignedRequest
from aitp_cp.runtime import Runtime
from aitp_cp.web.client_ip import bucket_key
from aitp_cp.web.context import RequestContext
from aitp_cp.web.endpoint import Bucket, Endpoint, Gate
from aitp_cp.web.environment_keys import EnvironmentKeys
from aitp_cp.web.hosts import HostRule
from aitp_cp.web.principal import ANYONE, Agents, Credentials, Kind, Principal, Sessions
from aitp_cp.web.ratelimit import TokenBuckets

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# What pages ask for by themselves, which keeps no session alive: parts of themselves, and the whole without script.
FRAGMENT, REFRESH = "x-fragment", "refresh"
REFUSALS = (InvalidApiKey, ApiKeyExpired, ApiKeyRevoked, AgentTokenInvalid)


def bearer(headers: Headers) -> str | None:
    """Return the credential of an `Authorization: Bearer` header."""
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    # Only what HTTP calls white space: stripping Unicode's would cut a key whose UTF-8 ends in 0x85 or 0xA0.
    return credential.strip(" \t") or None if scheme.lower() == "bearer" else None


class Gatekeeper:
    """Admits requests to endpoints; knows keys only by their SHA-256 digest."""

    def __init__(
        self,
        rt: Runtime,
        credentials: Sequence[Credentials] = (),
        agents: Agents | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        settings = rt.settings
        self._environment = EnvironmentKeys(settings)
        self._sessions = sessions
        self._kinds = {kind.prefix: kind for kind in credentials}
        self._agents = agents
        self._production = settings.production
        self._hosts = HostRule(settings)
        self._drops = rt.metrics.rate_limit_drops
        self._buckets: TokenBuckets | None = None
        if settings.rate_limit_enabled:
            limits = {
                Bucket.ENROLL_IP: settings.rate_limit_enrollment_per_ip_min,
                Bucket.PUBLIC_IP: settings.rate_limit_public_per_ip_min,
                Bucket.API_KEY: settings.rate_limit_api_key_per_min,
                Bucket.AGENT: settings.rate_limit_agent_per_min,
                Bucket.AGENT_AUTH_IP: settings.rate_limit_agent_auth_per_ip_min,
                Bucket.CONSOLE: settings.rate_limit_console_per_min,
                Bucket.LOGIN_IP: settings.rate_limit_login_per_ip_min,
            }
            for bucket in limits:
                self._drops.labels(bucket=str(bucket))  # shown from the start, or the first drop could not be a rise
            self._buckets = TokenBuckets(
                {str(bucket): limit for bucket, limit in limits.items()},
                settings.rate_limit_window_ms / 1000,
                lambda: rt.clock().timestamp(),
            )

    async def admit(self, context: RequestContext, endpoint: Endpoint, request: Request) -> None:
        """Let the request through.

        Raises `InvalidApiKey`, `ApiKeyExpired`, `ApiKeyRevoked`, `AgentTokenInvalid`, `SignatureInvalid`,
        `ScopeMissing`, `ServerMisconfigured`, `DatabaseUnavailable`, `OriginNotAllowed`, `CrossSiteRefused`,
        `SignInRequired`, `RateLimited`, and what the principal's check raises.
        """
        if endpoint.of_console and endpoint.method not in SAFE_METHODS and not endpoint.cross_site:
            self._hosts.check_own_page(request.headers)
        if endpoint.gate is Gate.SESSION:
            await self._admit_browser(context, endpoint, request)
            return
        if not endpoint.gated:
            self._spend_for_address(context, endpoint.limited_by)
            return
        signed = self._signed(endpoint, request) if endpoint.signable else None
        if signed is None and not self._production and not self._keys_exist and not self._names_agent(request.headers):
            self._hosts.check_origin(request.headers)
            self._spend_for_address(context, Bucket.API_KEY)
            context.principal = ANYONE
            return
        if signed is not None:
            principal = self._verify(context, signed)
        else:
            principal = await self._identify(context, request.headers)
        context.principal = principal
        context.actor = context.caller = principal.actor
        bucket = Bucket.AGENT if principal.kind is Kind.AGENT else Bucket.API_KEY
        self._spend(context, bucket, principal.actor, principal.rate_per_min)
        _check_scope(endpoint, principal)
        if principal.kind is Kind.AGENT and self._agents is not None:
            await self._agents.check(principal)

    async def _admit_browser(self, context: RequestContext, endpoint: Endpoint, request: Request) -> None:
        """Let a browser with a session through; an `Authorization` header means nothing here."""
        by_itself = FRAGMENT in request.headers or REFRESH in request.query_params or endpoint.streaming
        principal = None
        if self._sessions is not None:
            principal = await self._sessions.find(request.headers, active=not by_itself)
        if principal is None:
            gate_is_open = not self._production and not self._keys_exist
            self._spend_for_address(context, endpoint.limited_by if gate_is_open else Bucket.PUBLIC_IP)
            if not gate_is_open:
                raise SignInRequired
            context.principal = ANYONE
            return
        context.principal, context.credentials = principal, self._sessions
        context.actor = context.caller = principal.actor
        self._spend(context, endpoint.limited_by, str(principal.session))
        _check_scope(endpoint, principal)

    def charge_address(self, context: RequestContext) -> None:
        """Spend a token for a request that turned out to be unsigned; raises `RateLimited`."""
        self._spend_for_address(context, Bucket.PUBLIC_IP)

    def charge(self, context: RequestContext, headers: Headers) -> None:
        """Spend a token for a request that reaches no endpoint; raises `RateLimited`."""
        principal = self._find(headers)
        if principal is None:
            self._spend_for_address(context, Bucket.PUBLIC_IP)
        else:
            bucket = Bucket.AGENT if principal.kind is Kind.AGENT else Bucket.API_KEY
            self._spend(context, bucket, principal.actor, principal.rate_per_min)

    def recognises(self, headers: Headers) -> bool:
        """Return whether the request carries a credential that memory knows to be valid; nothing is spent."""
        return self._find(headers) is not None

    @property
    def _keys_exist(self) -> bool:
        return self._environment.exist or any(kind.exist for kind in self._kinds.values())

    def _signed(self, endpoint: Endpoint, request: Request) -> SignedRequest | None:
        """Return what a signature covers, if there is one; then no other credential counts."""
        scope = request.scope
        fields = http_signature.fields_of(scope["headers"])
        if not http_signature.is_signed(fields):
            return None
        query = scope["query_string"].decode("latin-1")
        # The router has compared the path as it was sent.
        return SignedRequest(scope["method"], endpoint.path, query, fields)

    def _names_agent(self, headers: Headers) -> bool:
        return is_agent_token(bearer(headers) or "")

    def _verify(self, context: RequestContext, signed: SignedRequest) -> Principal:
        """Return who signed; a failure costs its address a token, which is spent before public-key work is done."""
        assert self._agents is not None
        before = dict(context.headers)
        self._spend_for_address(context, Bucket.PUBLIC_IP)
        principal, context.digests = self._agents.verify(signed)
        context.headers = before
        if self._buckets is not None:
            self._buckets.give_back(Bucket.PUBLIC_IP, bucket_key(context.client_ip))
        return principal

    async def _identify(self, context: RequestContext, headers: Headers) -> Principal:
        """Return who calls; one that is refused, or that the database is asked about, spends a guess first."""
        token = bearer(headers) or ""
        digest = _digest(token)
        kind = self._kinds.get(token[:4])
        refusal: AppError = InvalidApiKey()
        principal = self._environment.find(digest)
        if principal is not None:
            return principal
        try:
            principal = None if kind is None else kind.find(token, digest)
        except REFUSALS as refused:
            refusal, kind = refused, None
        of_agent = isinstance(refusal, AgentTokenInvalid)
        if principal is None:
            if kind is not None or self._keys_exist or of_agent:
                # Guessing is throttled like any other anonymous call, and before it learns anything.
                self._spend_for_address(context, Bucket.PUBLIC_IP)
            principal = None if kind is None else await kind.look_up(token, digest)
        if principal is None or kind is None:
            raise refusal if self._keys_exist or of_agent else ServerMisconfigured
        context.credentials = kind
        kind.used(principal, context.client_ip)
        return principal

    def _find(self, headers: Headers) -> Principal | None:
        token = bearer(headers) or ""
        digest = _digest(token)
        kind = self._kinds.get(token[:4])
        try:
            return self._environment.find(digest) or (None if kind is None else kind.find(token, digest))
        except (*REFUSALS, DatabaseUnavailable):
            return None

    def _spend_for_address(self, context: RequestContext, bucket: Bucket) -> None:
        if self._buckets is not None:
            self._spend(context, bucket, bucket_key(context.client_ip))

    def _spend(self, context: RequestContext, bucket: Bucket, key: str, per_min: int | None = None) -> None:
        if self._buckets is None or bucket is Bucket.EXEMPT:
            return
        decision = self._buckets.take(bucket, key, per_min)
        if decision is None:
            return
        if not decision.allowed:
            self._drops.labels(bucket=str(bucket)).inc()
            raise RateLimited(extra={"bucket": str(bucket)}, headers=decision.headers())
        context.headers |= decision.headers()


def _digest(token: str) -> bytes:
    # Latin-1 gives back the bytes as they were sent, which for a key outside ASCII are its UTF-8.
    return hashlib.sha256(token.encode("latin-1")).digest()


def _check_scope(endpoint: Endpoint, principal: Principal) -> None:
    scope = endpoint.scope
    if scope is not None and scope not in principal.scopes:
        raise ScopeMissing(f"the credential lacks the scope {scope}", extra={"required": str(scope)})
