"""Every error of the API: class, HTTP status, code and sentence.

Only `web/responses.py` renders them. A message is a sentence for people. It never contains a secret, an exception's
text, SQL or a DSN (contract, section 2).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

CHALLENGE = {"WWW-Authenticate": "Bearer"}


class AppError(Exception):
    """An error response; `extra` adds members to the body, `headers` adds headers.

    Each 401 has the challenge that HTTP asks for (RFC 9110, section 15.5.2; contract, section 3).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL"
    sentence: ClassVar[str] = "unexpected failure"

    def __init__(
        self,
        message: str | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or self.sentence)
        self.message = message or self.sentence
        self.extra = dict(extra or {})
        self.headers = {**(CHALLENGE if self.status == 401 else {}), **(headers or {})}


class Internal(AppError):
    pass


class BodyInvalid(AppError):
    status, code, sentence = 400, "BODY_INVALID", "the request body is not valid"


class BadRequest(AppError):
    status, code, sentence = 400, "BAD_REQUEST", "the request is not valid"


class IdInvalid(AppError):
    status, code, sentence = 400, "ID_INVALID", "the id in the path is not a UUID"


class FilterInvalid(AppError):
    status, code, sentence = 400, "FILTER_INVALID", "a filter is not valid"


class OffsetTooLarge(AppError):
    status, code = 400, "OFFSET_TOO_LARGE"
    sentence = "offset is above 100000: use before, with nextBefore of the last page"


class NotFound(AppError):
    status, code, sentence = 404, "NOT_FOUND", "not found"


def existing(value: T | None, sentence: str) -> T:
    """Return the value; raise `NotFound` for None."""
    if value is None:
        raise NotFound(sentence)
    return value


class MethodNotAllowed(AppError):
    status, code, sentence = 405, "METHOD_NOT_ALLOWED", "method not allowed"


class AlreadyExists(AppError):
    status, code, sentence = 409, "ALREADY_EXISTS", "already exists"


class Conflict(AppError):
    status, code, sentence = 409, "CONFLICT", "another write came first: nothing was changed, send the request again"


class HostUnknown(AppError):
    status, code = 421, "HOST_UNKNOWN"
    sentence = "this server does not answer for the host name of the request; ALLOWED_HOSTS lists the names it knows"


class PayloadTooLarge(AppError):
    status, code, sentence = 413, "PAYLOAD_TOO_LARGE", "the payload is too large"


class EncodingUnsupported(AppError):
    status, code = 415, "ENCODING_UNSUPPORTED"
    sentence = "the body must be sent without a Content-Encoding"


class UriTooLong(AppError):
    status, code, sentence = 414, "URI_TOO_LONG", "the request target is too long"


class HeadersTooLarge(AppError):
    status, code, sentence = 431, "HEADERS_TOO_LARGE", "the request headers are too large"


class InvalidApiKey(AppError):
    status, code, sentence = 401, "INVALID_API_KEY", "missing or invalid API key"


class ApiKeyExpired(AppError):
    status, code, sentence = 401, "API_KEY_EXPIRED", "the API key has expired"


class ApiKeyRevoked(AppError):
    status, code, sentence = 401, "API_KEY_REVOKED", "the API key was revoked"


class ScopeMissing(AppError):
    status, code, sentence = 403, "SCOPE_MISSING", "the credential lacks the scope in `required`"


class GrantExceeded(AppError):
    status, code = 403, "GRANT_EXCEEDED"
    sentence = "a key cannot grant a scope, a lifetime or a rate that exceeds its own: see `field`"


class OriginNotAllowed(AppError):
    status, code = 403, "ORIGIN_NOT_ALLOWED"
    sentence = "without API keys, pages of other origins are refused: set API_KEYS, or list the origin in CORS_ORIGIN"


class SignInRequired(AppError):
    status, code, sentence = 401, "SIGN_IN_REQUIRED", "sign in to the console: there is no session, or it has ended"


class StepUpRequired(AppError):
    """`back` is the page of the console to return to."""

    status, code, sentence = 401, "STEP_UP_REQUIRED", "sign in again before you do this"

    def __init__(self, back: str) -> None:
        super().__init__()
        self.back = back


class CrossSiteRefused(AppError):
    status, code = 403, "CROSS_SITE_REFUSED"
    sentence = "only pages of the console may send this; behind a proxy, set CONSOLE_ORIGIN or CP_BASE_URL"


class RateLimited(AppError):
    status, code, sentence = 429, "RATE_LIMITED", "rate limit exceeded"


class ServerMisconfigured(AppError):
    status, code = 503, "SERVER_MISCONFIGURED"
    sentence = "there is no API key yet: create one with `aitp-cp keys create`, or set API_KEYS"


class KeyNotActive(AppError):
    status, code, sentence = 409, "KEY_NOT_ACTIVE", "the key has expired or was revoked"


class IdempotencyKeyInvalid(AppError):
    status, code = 400, "IDEMPOTENCY_KEY_INVALID"
    sentence = "Idempotency-Key must be 1 to 255 characters without control characters"


class IdempotencyInFlight(AppError):
    status, code = 409, "IDEMPOTENCY_IN_FLIGHT"
    sentence = "the first request with this Idempotency-Key is still running"


class IdempotencyKeyReused(AppError):
    status, code = 422, "IDEMPOTENCY_KEY_REUSED"
    sentence = "this Idempotency-Key was used with another request body"


class ManifestInvalid(AppError):
    status, code, sentence = 400, "MANIFEST_INVALID", "the manifest is not valid"


class ManifestExpired(AppError):
    status, code = 400, "MANIFEST_EXPIRED"
    sentence = "the manifest has expired or expires within five minutes"


class TokenInvalid(AppError):
    status, code, sentence = 401, "TOKEN_INVALID", "the enrollment token is not valid"


class TokenReplayed(AppError):
    status, code, sentence = 401, "TOKEN_REPLAYED", "the enrollment token was already used"


class NamespaceConflict(AppError):
    status, code = 400, "NAMESPACE_CONFLICT"
    sentence = "the namespace header and the manifest's namespace differ"


class NamespaceFixed(AppError):
    status, code = 409, "NAMESPACE_FIXED"
    sentence = "the agent is registered in another namespace, and this request cannot move it"


class ManifestStale(AppError):
    status, code = 409, "MANIFEST_STALE"
    sentence = "a newer manifest of this agent is already registered"


class AgentDeregistered(AppError):
    status, code = 409, "AGENT_DEREGISTERED"
    sentence = "the agent was deregistered after this manifest was published"


class AgentContained(AppError):
    status, code = 403, "AGENT_CONTAINED"
    sentence = "the agent is contained: an operator must release it first"


class NotContained(AppError):
    status, code, sentence = 409, "NOT_CONTAINED", "the agent is not contained"


class PlanChanged(AppError):
    status, code = 409, "PLAN_CHANGED"
    sentence = "the agent's live tokens have changed since this plan: request a new dry run"


class ProofInvalid(AppError):
    status, code, sentence = 401, "PROOF_INVALID", "the signed response to the challenge is not valid"


class AgentTokenInvalid(AppError):
    status, code, sentence = 401, "AGENT_TOKEN_INVALID", "the agent token is not valid"


class SignatureInvalid(AppError):
    status, code, sentence = 401, "SIGNATURE_INVALID", "the signature of the request is not valid"


class AgentNotActive(AppError):
    status, code = 403, "AGENT_NOT_ACTIVE"
    sentence = "the agent is not registered, or its registration has ended: register it, then report again"


class ProofRequired(AppError):
    status, code = 403, "PROOF_REQUIRED"
    sentence = "registration needs proof of the agent's key: send an agent token in X-Aitp-Agent-Token"


class SignatureRequired(AppError):
    status, code = 403, "SIGNATURE_REQUIRED"
    sentence = "only agents may report: use an agent token or sign the request"


class HandshakeUnsupported(AppError):
    status, code, sentence = 501, "HANDSHAKE_UNSUPPORTED", "the control plane does not take part in handshakes"


class JtiInvalid(AppError):
    status, code, sentence = 400, "JTI_INVALID", "jti is not a UUID"


class RevocationUnavailable(AppError):
    status, code = 503, "REVOCATION_UNAVAILABLE"
    sentence = "the revocation list cannot be confirmed now: try again"


class UrlNotAllowed(AppError):
    status, code, sentence = 400, "URL_NOT_ALLOWED", "the URL is not allowed"


class HostUnresolved(AppError):
    status, code = 503, "HOST_UNRESOLVED"
    sentence = "the host name does not resolve to a public address now: check it, and try again"


class WebhooksLimit(AppError):
    status, code = 409, "WEBHOOKS_LIMIT"
    sentence = "the number of webhooks has reached WEBHOOKS_MAX: delete one first"


class JwksNotCached(AppError):
    status, code, sentence = 503, "JWKS_NOT_CACHED", "no key set has been fetched for this anchor yet"


class IngestBusy(AppError):
    status, code, sentence = 503, "INGEST_BUSY", "too many reported events are waiting to be stored: try again"


class SseCapacity(AppError):
    status, code, sentence = 503, "SSE_CAPACITY", "too many open event streams"


class ShuttingDown(AppError):
    status, code, sentence = 503, "SHUTTING_DOWN", "the server is stopping"


class DatabaseUnavailable(AppError):
    status, code, sentence = 503, "DATABASE_UNAVAILABLE", "the database is unavailable"


# The same request may succeed later, so these responses are never stored under an Idempotency-Key.
RETRIABLE = (Conflict, DatabaseUnavailable, IngestBusy, ShuttingDown, WebhooksLimit)
