"""Sessions of browsers: opened, confirmed at each request, renewed and ended (contract, section 22).

A session is a reference of 256 random bits, kept by its digest. It ends when idle, after some hours however busy it is,
on logout, when an administrator ends it, and with what it stands on: the last live key of its family, its key of the
environment, or single sign-on. What it may do is what its credential could do at sign-in, and can still do now.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec

from aitp_cp.accounts import store
from aitp_cp.accounts.model import MAX_AGENT, MAX_DISPLAY, MAX_SUBJECT, ConsoleSession, Method, SignIn, Which
from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor, Change
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Page, Window
from aitp_cp.errors import StepUpRequired
from aitp_cp.keys import store as keys
from aitp_cp.keys.model import ApiKey
from aitp_cp.protocol.bearer_token import digest_of
from aitp_cp.protocol.scopes import ROLES, Role, Scope
from aitp_cp.runtime import Runtime
from aitp_cp.settings import Settings
from aitp_cp.web.context import Source, context_of
from aitp_cp.web.environment_keys import EnvironmentKeys
from aitp_cp.web.principal import Kind, Principal

TOKEN_BYTES = 32
TOKEN_CHARACTERS = 43  # of base64url
ENTRY = Scope.DASHBOARD_READ  # who lacks it has no console: reporters
FRESH = timedelta(minutes=5)
TOUCHES = 10  # writes in an idle timeout at most: `seen_at` is late by a tenth of it


class Accounts:
    """The rules that depend on this process's settings."""

    def __init__(self, settings: Settings) -> None:
        self.environment = EnvironmentKeys(settings)
        self._idle = timedelta(minutes=settings.console_idle_minutes)
        self._longest = timedelta(hours=settings.console_max_hours)
        granted = [ROLES[Role(role)] for role in settings.oidc_role_map.values()] if settings.oidc_issuer else []
        self._of_roles = frozenset[Scope]().union(*granted)

    def seen_after(self, now: datetime) -> datetime:
        """Return the time since which a session must have been used."""
        return now - self._idle

    async def principals(
        self, conn: Connection, sessions: Sequence[ConsoleSession], now: datetime
    ) -> dict[UUID, Principal]:
        """Return who holds each session that is live now; what the others stand on has gone."""
        families = {session.key_family for session in sessions if session.key_family is not None}
        behind = await keys.newest_of_families(conn, list(families), now) if families else {}
        principals = {session.id: self._principal(session, behind, now) for session in sessions}
        return {id: principal for id, principal in principals.items() if principal is not None}

    def _principal(self, session: ConsoleSession, behind: dict[UUID, ApiKey], now: datetime) -> Principal | None:
        key = None if session.key_family is None else behind.get(session.key_family)
        scopes = self._allowed(session, key) & frozenset(map(str, session.scopes))
        if ENTRY not in scopes or session.expires_at <= now or session.seen_at <= self.seen_after(now):
            return None
        return Principal(
            actor=session.subject,
            kind=Kind.SESSION,
            name=session.display,
            scopes=frozenset(map(Scope, scopes)),
            expires_at=None if key is None else key.expires_at,  # the most that a key made in this session may live
            rate_per_min=None if key is None else key.rate_per_min,
            key_id=None if key is None else key.id,
            session=session.id,
            authenticated_at=session.auth_at,
        )

    def _allowed(self, session: ConsoleSession, key: ApiKey | None) -> frozenset[str]:
        if session.method == Method.OIDC:
            return frozenset(map(str, self._of_roles))
        if session.key_family is None:
            return frozenset(map(str, Scope)) if session.subject in self.environment.actors else frozenset()
        return frozenset(() if key is None else key.scopes) & frozenset(map(str, Scope))

    async def used(self, conn: Connection, session: ConsoleSession, now: datetime) -> None:
        """Put off the end of an idle session; most requests write nothing."""
        if now - session.seen_at >= min(timedelta(minutes=1), self._idle / TOUCHES):
            await store.touch(conn, session.id, now)

    async def enter(
        self, conn: Connection, who: SignIn, current: ConsoleSession | None, actor: Actor, now: datetime, agent: str
    ) -> str:
        """Open a session for a valid credential, and return its token, which is kept nowhere else.

        `current` is the session that the browser has. If it is of the same subject, it gets a new token and counts as
        confirmed from now on; another one ends. A token from before is never taken over.
        """
        token = secrets.token_urlsafe(TOKEN_BYTES)
        session = ConsoleSession(
            id=uuid4(),
            digest=digest_of(token),
            subject=who.subject,
            display=None if who.display is None else who.display[:MAX_DISPLAY],
            scopes=who.scopes,
            method=who.method,
            key_family=who.key_family,
            idp_sid=who.idp_sid,
            created_at=now,
            seen_at=now,
            auth_at=who.auth_at,
            expires_at=now + self._longest,
            ip=actor.via.get("address", ""),
            agent=agent[:MAX_AGENT],
        )
        renewed = None
        if current is not None and (current.subject, current.method) == (who.subject, who.method):
            again = msgspec.structs.replace(session, id=current.id)
            renewed = await store.renew(conn, current.digest, again)
        if renewed is None:
            if current is not None:
                await store.end(conn, now, "login", Which(id=current.id))
            await store.insert(conn, session)
        made = renewed or session
        action: audit.Action = "console.login" if renewed is None else "console.step-up"
        await audit.record(conn, action, in_session(actor, made), who.subject, {"method": str(who.method)}, now)
        return token

    async def list_live(
        self, conn: Connection, window: Window, now: datetime, subject: str | None = None
    ) -> tuple[list[ConsoleSession], Page]:
        """Return live sessions, of one subject or of all, the newest first."""
        return await store.page(conn, window, now, self.seen_after(now), subject)


async def leave(conn: Connection, id: UUID, actor: Actor, now: datetime) -> None:
    """End a session at its person's wish."""
    for ended in await store.end(conn, now, "logout", Which(id=id)):
        await audit.record(conn, "console.logout", actor, ended.subject, {"method": ended.method}, now)


async def end(conn: Connection, actor: Actor, now: datetime, which: Which) -> list[ConsoleSession]:
    """End sessions, with one audit row each; return those that this has ended."""
    ended = await store.end(conn, now, actor.id[:MAX_SUBJECT], which)
    if ended:
        changes = [Change(actor, session.subject, {"ended": session.shown}) for session in ended]
        await audit.record_all(conn, "console.session.end", changes, now)
    return ended


def in_session(actor: Actor, session: ConsoleSession) -> Actor:
    """Return the caller of a request as the person of a session, where the gate has not looked for one."""
    via = {**actor.via, "session": session.shown}
    return msgspec.structs.replace(actor, id=session.subject, name=session.display, via=via)


def is_fresh(rt: Runtime, request: Source) -> bool:
    """Return whether the person showed a credential in the last five minutes; always so where the gate is open."""
    principal = context_of(request).principal
    if principal is None or principal.session is None:
        return principal is not None
    return principal.authenticated_at is not None and rt.clock() - principal.authenticated_at <= FRESH


def require_fresh(rt: Runtime, request: Source, back: str) -> None:
    """Raise `StepUpRequired` when the person must show a credential again; `back` is the page to do it from then."""
    if not is_fresh(rt, request):
        raise StepUpRequired(back)


def subject_of(issuer: str, subject: str) -> str:
    """Return the actor of a person known to a provider (contract, section 18)."""
    whole = f"user:{issuer}#{subject}"
    return whole if len(whole) <= MAX_SUBJECT else f"user:sha256:{hashlib.sha256(whole.encode()).hexdigest()}"
