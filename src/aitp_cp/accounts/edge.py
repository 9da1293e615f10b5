"""Browsers at the gate: their cookie, who has signed in with it, and what an attempt to sign in comes to."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import structlog
from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser

from aitp_cp.accounts import service, store
from aitp_cp.accounts.attempt import LIFETIME, AttemptInvalid, Attempts
from aitp_cp.accounts.guesses import Guesses
from aitp_cp.accounts.model import ConsoleSession, LoginRefused, Method, ProviderAway, SignIn, Which
from aitp_cp.accounts.service import ENTRY, TOKEN_CHARACTERS, Accounts
from aitp_cp.audit import service as audit
from aitp_cp.audit.routes import actor_of
from aitp_cp.errors import RETRIABLE, DatabaseUnavailable, InvalidApiKey, NotFound, RateLimited, ScopeMissing
from aitp_cp.jobs import Loop
from aitp_cp.keys import store as keys
from aitp_cp.keys.cache import KeyCache
from aitp_cp.protocol.bearer_token import API_KEY_PREFIX, SHOWN_CHARACTERS, digest_of
from aitp_cp.protocol.scopes import in_order
from aitp_cp.runtime import Runtime
from aitp_cp.settings import Settings
from aitp_cp.web.client_ip import bucket_key
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import CONSOLE
from aitp_cp.web.gate import REFUSALS
from aitp_cp.web.hosts import is_loopback, name_in
from aitp_cp.web.principal import Principal

if TYPE_CHECKING:
    from aitp_cp.accounts.oidc import Provider

# Browsers keep a cookie with this prefix only from https, for the whole host, and from no other host. The other one is
# for plain HTTP on the browser's own machine.
PREFIX, LOCAL_PREFIX = "__Host-acp", "acp-dev"
SESSION, ATTEMPT = "", "-oidc"
CALLBACK = CONSOLE + "login/oidc/callback"
CHECK_SECS = 1.0  # how late a stream may notice that its session has ended
TRUST_SECS = 60.0  # how long a session goes on while the database cannot be asked
MAX_KNOWN = 10_000
FORGET_SECS = 30.0  # a stream that does not ask for so long has ended
REFUSED_SECS = 0.25  # of every refusal, so that its time does not tell one reason from another

log = structlog.get_logger("aitp_cp.accounts")


@dataclass(slots=True)
class _Watch:
    used: float
    confirmed: float
    ended: bool = False


class _Known(NamedTuple):
    principal: Principal
    confirmed: float


class BrowserSessions(Loop):
    """Knows browsers by their cookie.

    Each request asks the database, so what ends a session counts everywhere. While the database is away, a session that
    was confirmed a minute ago goes on.
    """

    def __init__(self, rt: Runtime, accounts: Accounts, provider: "Provider | None" = None) -> None:
        super().__init__(rt, "console.sessions")
        self._accounts = accounts
        self._provider = provider
        self._attempts = Attempts(rt.settings.enrollment_secret.get_secret_value().encode())
        self._guesses = Guesses(rt)
        self.cookies = Cookies(rt.settings)
        self._watched: dict[UUID, _Watch] = {}
        self._known: dict[bytes, _Known] = {}  # the last used at the end

    async def find(self, headers: Headers, *, active: bool) -> Principal | None:
        token = self.cookies.read(headers)
        if token is None:
            return None
        digest = digest_of(token)
        known = self._known.pop(digest, None)
        try:
            principal = await self._find(digest, active=active)
        except DatabaseUnavailable:
            # So that pages can say what still works; nothing can be changed meanwhile.
            if known is None or asyncio.get_running_loop().time() - known.confirmed > TRUST_SECS:
                raise
            self._known[digest] = known
            return known.principal
        if principal is not None:
            self._known[digest] = _Known(principal, asyncio.get_running_loop().time())
            if len(self._known) > MAX_KNOWN:
                self._known.pop(next(iter(self._known)))
        return principal

    async def _find(self, digest: bytes, *, active: bool) -> Principal | None:
        now = self.rt.clock()
        async with self.rt.db.connection() as conn:
            session = await store.find(conn, digest)
            if session is None:
                return None
            principal = (await self._accounts.principals(conn, [session], now)).get(session.id)
            if principal is None:
                await store.end(conn, now, "expired", Which(id=session.id))
            elif active:
                await self._accounts.used(conn, session, now)
        return principal

    def is_valid(self, principal: Principal) -> bool:
        if principal.session is None:
            return True
        now = asyncio.get_running_loop().time()
        watch = self._watched.get(principal.session)
        if watch is None:
            watch = self._watched[principal.session] = _Watch(now, now)
            self.wake()
        watch.used = now
        return not watch.ended and now - watch.confirmed < TRUST_SECS

    async def turn(self) -> float:
        """Look up the sessions of all streams in one go."""
        loop = asyncio.get_running_loop()
        started, now = loop.time(), self.rt.clock()
        self._watched = {id: watch for id, watch in self._watched.items() if started - watch.used < FORGET_SECS}
        if not self._watched:
            return FORGET_SECS
        async with self.rt.db.connection() as conn:
            sessions = await store.find_all(conn, list(self._watched))
            live = await self._accounts.principals(conn, sessions, now)
        for id, watch in self._watched.items():
            if id in live:
                watch.confirmed = started
            elif watch.confirmed < started:  # not one that has begun meanwhile
                watch.ended = True
        return CHECK_SECS

    def ended(self, id: UUID) -> None:
        """End the streams of a session that this process has ended."""
        watch = self._watched.get(id)
        if watch is not None:
            watch.ended = True
        self._known = {digest: known for digest, known in self._known.items() if known.principal.session != id}

    async def sign_in_by_key(self, request: Request, key: str) -> str:
        """Open a session for the holder of an API key, or confirm the one there is; return the cookie to set.

        Raises `LoginRefused`, after the same time for every reason, `RateLimited` and `DatabaseUnavailable`.
        """
        # An attempt inside a session counts for its subject, any other for the part of a key that lists show.
        current = await self._current(request)
        subject = key[:SHOWN_CHARACTERS] if current is None else current.subject
        try:
            self._guesses.spend(subject)
        except RateLimited:
            self._count(Method.KEY, "limited")
            raise
        started = asyncio.get_running_loop().time()
        try:
            who = await self._holder(key, context_of(request).client_ip)
        except LoginRefused as refused:
            await self._refuse(request, Method.KEY, refused.reason)
            await asyncio.sleep(started + REFUSED_SECS - asyncio.get_running_loop().time())
            raise
        self._guesses.give_back(subject)
        return await self.enter(request, who)

    async def enter(self, request: Request, who: SignIn) -> str:
        """Give the browser of a known person a session, and return its cookie; raises `DatabaseUnavailable`."""
        now, agent = self.rt.clock(), request.headers.get("user-agent", "")
        current = await self._current(request)
        async with self.rt.db.transaction() as conn:
            token = await self._accounts.enter(conn, who, current, actor_of(self.rt, request), now, agent)
        self._count(who.method, "ok")
        return self.cookies.written(request.headers, token)

    async def leave(self, request: Request) -> str:
        """End the session of a browser, if it has one; return the cookie that takes its token away."""
        current = await self._current(request)
        if current is not None:
            actor = service.in_session(actor_of(self.rt, request), current)
            async with self.rt.db.transaction() as conn:
                await service.leave(conn, current.id, actor, self.rt.clock())
            self.ended(current.id)
        return self.cookies.cleared(request.headers)

    async def begin(self, request: Request, to: str, *, again: bool) -> tuple[str, str]:
        """Begin single sign-on; return where the browser goes, and the cookie that binds the attempt to it.

        Raises `ProviderAway`.
        """
        attempt, state = self._attempts.begin(to, again=again, now=self.rt.clock())
        try:
            address = await self._single_sign_on.address(attempt, state, self._redirect_uri(request.headers))
        except ProviderAway as away:
            self._unavailable(away)
            raise
        return address, self.cookies.written(request.headers, attempt.secret, ATTEMPT, LIFETIME)

    async def finish(self, request: Request) -> tuple[str, str]:
        """Open a session for the person whom the provider sends back; return the page to go to, and the cookie.

        Raises `LoginRefused`, `ProviderAway` and `DatabaseUnavailable`.
        """
        try:
            to, who = await self._redeemed(request)
        except LoginRefused as refused:
            await self._refuse(request, Method.OIDC, refused.reason)
            raise
        except ProviderAway as away:
            self._unavailable(away)
            raise
        return to, await self.enter(request, who)

    async def end_by_provider(self, request: Request, logout_token: str) -> None:
        """End the sessions that a provider's back-channel logout names; raises `LoginRefused` and `ProviderAway`."""
        sid, subject = await self._single_sign_on.ended(logout_token)
        which = Which(subject=subject) if sid is None else Which(idp_sid=sid, subject=subject)
        actor = msgspec.structs.replace(actor_of(self.rt, request), id="identity-provider")
        async with self.rt.db.transaction() as conn:
            ended = await service.end(conn, actor, self.rt.clock(), which)
        for session in ended:
            self.ended(session.id)

    @property
    def offers_single_sign_on(self) -> bool:
        return self._provider is not None

    @property
    def _single_sign_on(self) -> "Provider":
        if self._provider is None:
            raise NotFound("single sign-on is not set up: OIDC_ISSUER is unset")
        return self._provider

    def _unavailable(self, away: ProviderAway) -> None:
        self._count(Method.OIDC, "unavailable")
        log.warning("identity_provider_unavailable", reason=str(away))

    async def _redeemed(self, request: Request) -> tuple[str, SignIn]:
        query, provider = request.query_params, self._single_sign_on
        secret = self.cookies.read(request.headers, ATTEMPT)
        try:
            attempt = self._attempts.resume(query.get("state", ""), secret or "", self.rt.clock())
        except AttemptInvalid:
            raise LoginRefused("state") from None
        if query.get("iss", self.rt.settings.oidc_issuer) != self.rt.settings.oidc_issuer:  # RFC 9207
            raise LoginRefused("iss")
        code = query.get("code")
        if code is None or "error" in query:
            raise LoginRefused("denied" if query.get("error") == "access_denied" else "provider's error")
        return attempt.to, await provider.redeem(code, attempt, self._redirect_uri(request.headers))

    def _redirect_uri(self, headers: Headers) -> str:
        return self.cookies.origin(headers) + CALLBACK

    async def _refuse(self, request: Request, method: Method, reason: str) -> None:
        """Count a failed attempt, and write it down unless its address has just been."""
        self._count(method, "refused")
        context = context_of(request)
        if not self._guesses.is_written(bucket_key(context.client_ip)):
            return
        details = {"method": str(method), "reason": reason}
        with suppress(*RETRIABLE):
            async with self.rt.db.transaction() as conn:
                actor = actor_of(self.rt, request)
                await audit.record(conn, "console.login-failed", actor, context.client_ip, details, self.rt.clock())

    def _count(self, method: Method, result: str) -> None:
        self.rt.metrics.console_logins.labels(method=str(method), result=result).inc()

    async def _holder(self, key: str, client_ip: str) -> SignIn:
        digest, cache = digest_of(key), self.rt.get(KeyCache)
        principal = self._accounts.environment.find(digest)
        try:
            if principal is None and key.startswith(API_KEY_PREFIX):
                principal = cache.find(key, digest) or await cache.look_up(key, digest)
        except REFUSALS as refused:
            raise LoginRefused(refused.code) from None
        if principal is None:
            raise LoginRefused(InvalidApiKey.code)
        if ENTRY not in principal.scopes:
            raise LoginRefused(ScopeMissing.code)
        family = None
        if principal.key_id is not None:
            cache.used(principal, client_ip)
            async with self.rt.db.connection() as conn:
                family = next(iter(await keys.find(conn, [principal.key_id]))).family
        return SignIn(
            subject=principal.actor,
            display=principal.name,
            scopes=tuple(map(str, in_order(principal.scopes))),
            method=Method.KEY,
            auth_at=self.rt.clock(),
            key_family=family,
        )

    async def _current(self, request: Request) -> ConsoleSession | None:
        """Return the session of a request to a page that needs none, if it is live."""
        token = self.cookies.read(request.headers)
        if token is None:
            return None
        async with self.rt.db.connection() as conn:
            session = await store.find(conn, digest_of(token))
            if session is None:
                return None
            live = await self._accounts.principals(conn, [session], self.rt.clock())
        return session if session.id in live else None


class Cookies:
    """The cookies that name a session and an attempt; how they are called depends on how the console is reached."""

    def __init__(self, settings: Settings) -> None:
        public = urlsplit(settings.console_origin or settings.cp_base_url)
        self._origin = f"{public.scheme}://{public.netloc}"
        self._secure = public.scheme == "https"

    def read(self, headers: Headers, name: str = SESSION) -> str | None:
        """Return the token in a cookie; None for what cannot be one."""
        token = cookie_parser("; ".join(headers.getlist("cookie"))).get(self._prefix(headers) + name)
        return token if token is not None and len(token) == TOKEN_CHARACTERS and token.isascii() else None

    def written(self, headers: Headers, token: str, name: str = SESSION, lifetime: timedelta | None = None) -> str:
        """Return the value of `Set-Cookie`. Without a lifetime a browser forgets it when it is closed."""
        end = "" if lifetime is None else f"; Max-Age={int(lifetime.total_seconds())}"
        secure = "" if self._is_local(headers) else "; Secure"
        return f"{self._prefix(headers)}{name}={token}; Path=/; HttpOnly; SameSite=Lax{secure}{end}"

    def cleared(self, headers: Headers, name: str = SESSION) -> str:
        return self.written(headers, "", name, timedelta(0))

    def are_kept(self, headers: Headers) -> bool:
        """Return whether browsers keep the cookies: not from plain HTTP, except on their own machine."""
        return self._secure or self._is_local(headers)

    def origin(self, headers: Headers) -> str:
        """Return the origin that the browser sees."""
        return f"http://{headers.get('host', '')}" if self._is_local(headers) else self._origin

    def _prefix(self, headers: Headers) -> str:
        return LOCAL_PREFIX if self._is_local(headers) else PREFIX

    def _is_local(self, headers: Headers) -> bool:
        return not self._secure and is_loopback(name_in(headers.get("host", "")) or "")
