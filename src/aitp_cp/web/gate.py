"""Authentication and rate limits, before a request reaches its endpoint."""

import hashlib
import hmac

from starlette.datastructures import Headers
from starlette.requests import Request

from aitp_cp.errors import InvalidApiKey, RateLimited, ServerMisconfigured
from aitp_cp.runtime import Runtime
from aitp_cp.web.client_ip import bucket_key
from aitp_cp.web.context import RequestContext
from aitp_cp.web.endpoint import Bucket, Endpoint, Gate
from aitp_cp.web.hosts import HostRule
from aitp_cp.web.ratelimit import TokenBuckets


def bearer(headers: Headers) -> str | None:
    """Return the credential of an `Authorization: Bearer` header."""
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    # Only what HTTP calls white space: stripping Unicode's would cut a key whose UTF-8 ends in 0x85 or 0xA0.
    return credential.strip(" \t") or None if scheme.lower() == "bearer" else None


class Gatekeeper:
    """Admits requests to endpoints; knows keys only by their SHA-256 digest."""

    def __init__(self, rt: Runtime) -> None:
        settings = rt.settings
        self._digests = [hashlib.sha256(key.get_secret_value().encode()).digest() for key in settings.api_keys]
        self._production = settings.production
        self._hosts = HostRule(settings)
        self._drops = rt.metrics.rate_limit_drops
        self._buckets: TokenBuckets | None = None
        if settings.rate_limit_enabled:
            limits = {
                Bucket.ENROLL_IP: settings.rate_limit_enrollment_per_ip_min,
                Bucket.PUBLIC_IP: settings.rate_limit_public_per_ip_min,
                Bucket.API_KEY: settings.rate_limit_api_key_per_min,
            }
            for bucket in limits:
                self._drops.labels(bucket=str(bucket))  # shown from the start, or the first drop could not be a rise
            self._buckets = TokenBuckets(
                {str(bucket): limit for bucket, limit in limits.items()},
                settings.rate_limit_window_ms / 1000,
                lambda: rt.clock().timestamp(),
            )

    def admit(self, context: RequestContext, endpoint: Endpoint, request: Request) -> None:
        """Let the request through.

        Raises `InvalidApiKey`, `ServerMisconfigured`, `OriginNotAllowed` or `RateLimited`.
        """
        if endpoint.gate is not Gate.API_KEY:
            self._spend_for_address(context, endpoint.limited_by)
            return
        if not self._digests:
            self._admit_without_keys(context, request.headers)
            return
        digest = self._known_key(bearer(request.headers))
        if digest is None:
            # Guessing is throttled like any other anonymous call, and before it learns anything.
            self._spend_for_address(context, Bucket.PUBLIC_IP)
            raise InvalidApiKey(headers={"WWW-Authenticate": "Bearer"})
        context.actor = context.caller = "apikey:" + digest[:16]
        self._spend(context, Bucket.API_KEY, digest)

    def charge(self, context: RequestContext, headers: Headers) -> None:
        """Spend a token for a request that reaches no endpoint; raises `RateLimited`."""
        digest = self._known_key(bearer(headers))
        if digest is None:
            self._spend_for_address(context, Bucket.PUBLIC_IP)
        else:
            self._spend(context, Bucket.API_KEY, digest)

    def recognises(self, headers: Headers) -> bool:
        """Return whether the request carries a valid API key; nothing is spent."""
        return self._known_key(bearer(headers)) is not None

    def _admit_without_keys(self, context: RequestContext, headers: Headers) -> None:
        if self._production:
            raise ServerMisconfigured
        self._hosts.check_origin(headers)
        self._spend_for_address(context, Bucket.API_KEY)

    def _known_key(self, credential: str | None) -> str | None:
        if credential is None:
            return None
        # Latin-1 gives back the bytes as they were sent, which for a key outside ASCII are its UTF-8.
        offered = hashlib.sha256(credential.encode("latin-1")).digest()
        matches = [hmac.compare_digest(offered, known) for known in self._digests]
        return offered.hex() if any(matches) else None

    def _spend_for_address(self, context: RequestContext, bucket: Bucket) -> None:
        if self._buckets is not None:
            self._spend(context, bucket, bucket_key(context.client_ip))

    def _spend(self, context: RequestContext, bucket: Bucket, key: str) -> None:
        if self._buckets is None or bucket is Bucket.EXEMPT:
            return
        decision = self._buckets.take(bucket, key)
        if decision is None:
            return
        if not decision.allowed:
            self._drops.labels(bucket=str(bucket)).inc()
            raise RateLimited(extra={"bucket": str(bucket)}, headers=decision.headers())
        context.headers |= decision.headers()
