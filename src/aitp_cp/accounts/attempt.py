"""One attempt at single sign-on, on its way through the provider and back: kept by the browser, and nowhere else.

The browser holds a secret in a cookie for ten minutes. `state` carries the secret's digest, the page to return to and a
MAC, so it counts only in the browser that the attempt began in, and on any replica. The nonce and the PKCE verifier are
derived from the secret, which never leaves browser and server.
"""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

import msgspec

from aitp_cp.protocol.derived_keys import derive
from aitp_cp_client.wire import base64url

LIFETIME = timedelta(minutes=10)
SECRET_BYTES = 32
PURPOSE = "console sign-in"
MAX_STATE_CHARACTERS = 8192


class AttemptInvalid(Exception):
    """The state is forged, expired, or of another browser."""


class Attempt(msgspec.Struct, frozen=True):
    """`to` is the page to return to; with `again` the person must show the provider who it is at this moment."""

    secret: str
    to: str
    again: bool
    began_at: datetime

    @property
    def nonce(self) -> str:
        return self._derived(b"nonce")

    @property
    def verifier(self) -> str:
        return self._derived(b"verifier")

    def _derived(self, purpose: bytes) -> str:
        return base64url.encode(hmac.digest(self.secret.encode(), purpose, "sha256"))


class _State(msgspec.Struct, array_like=True):
    digest: str
    to: str
    again: bool
    began_at: datetime


class Attempts:
    """Writes and reads the state of attempts, under a key that all replicas derive from the same secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = derive(secret, PURPOSE)

    def begin(self, to: str, *, again: bool, now: datetime) -> tuple[Attempt, str]:
        """Return a new attempt, and its state."""
        attempt = Attempt(secrets.token_urlsafe(SECRET_BYTES), to, again, now)
        body = msgspec.json.encode(_State(_digest(attempt.secret), to, again, now))
        return attempt, f"{base64url.encode(body)}.{base64url.encode(self._mac(body))}"

    def resume(self, state: str, secret: str, now: datetime) -> Attempt:
        """Return the attempt of a state in the browser that holds `secret`; raises `AttemptInvalid`."""
        body, _, mac = state.partition(".")
        try:
            written = base64url.decode(body)
            if len(state) > MAX_STATE_CHARACTERS or not hmac.compare_digest(self._mac(written), base64url.decode(mac)):
                raise AttemptInvalid
            read = msgspec.json.decode(written, type=_State)
        except (ValueError, msgspec.MsgspecError):
            raise AttemptInvalid from None
        mine = hmac.compare_digest(read.digest, _digest(secret))
        if not mine or not timedelta(0) <= now - read.began_at <= LIFETIME:
            raise AttemptInvalid
        return Attempt(secret, read.to, read.again, read.began_at)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
