"""The live keys in the memory of each process (contract, part II, section 18).

All are read at the start. From then on they follow the log: a revocation counts as soon as the tail reads its event,
a created or rotated key is read again. A key that memory does not know yet is looked up, so it works at once. While
the log cannot be followed, what was read is trusted for `TRUST_SECS`, and after that nothing is.

Expiry is a comparison with the clock at each request. Names and rates reach other processes within a minute, with the
statement that marks the keys that were used.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from uuid import UUID

import msgspec

from aitp_cp.db import urgent
from aitp_cp.errors import RETRIABLE, ApiKeyExpired, ApiKeyRevoked, DatabaseUnavailable, InvalidApiKey
from aitp_cp.events.model import Event
from aitp_cp.events.stream import Streams
from aitp_cp.jobs import Loop
from aitp_cp.keys import store
from aitp_cp.keys.model import ApiKey, LiveKey
from aitp_cp.protocol.bearer_token import API_KEY_PREFIX, is_token
from aitp_cp.protocol.scopes import Scope
from aitp_cp.protocol.vocabulary import KEY_CREATED, KEY_REVOKED, KEY_ROTATED
from aitp_cp.runtime import Runtime
from aitp_cp.web.principal import Kind, Principal

TRUST_SECS = 60.0  # how long memory is trusted while the log cannot be followed
MARK_EVERY_SECS = 60.0  # a key in use costs one row in one statement a minute
MAX_KEYS = 250_000  # about 130 MiB; keys beyond it are looked up, and take the place of the oldest
LOAD_ROWS = 5000  # in one statement: about 30 ms of the loop
FIRST_ID = UUID(int=0)
KEY_EVENTS = frozenset({KEY_CREATED, KEY_ROTATED, KEY_REVOKED})


class _KeyEvent(msgspec.Struct, rename="camel"):
    id: UUID
    replaced_by: UUID | None = None


class KeyCache(Loop):
    """Knows who holds a key of the database; `behind` returns the seconds since the tail read the log to its end."""

    prefix = API_KEY_PREFIX

    def __init__(self, rt: Runtime, behind: Callable[[], float]) -> None:
        super().__init__(rt, "keys")
        self.exist = False  # any key, live or not
        self._behind = behind
        self._keys: dict[bytes, Principal] = {}
        self._digests: dict[UUID, bytes] = {}
        self._revoked: set[UUID] = set()
        self._reload = False
        self._changed: set[UUID] = set()  # to be read again
        self._changed_at: float | None = None  # when the first of them changed
        self._changes = 0
        self._reading = asyncio.Lock()  # of two reads the later one is newer
        self._used: dict[UUID, tuple[float, str]] = {}  # epoch seconds and address
        self._mark_at = asyncio.get_running_loop().time() + MARK_EVERY_SECS

    async def open(self) -> None:
        """Read the live keys, then follow them; raises `DatabaseUnavailable`."""
        await self._load()
        with urgent():
            self.start()

    def find(self, token: str, digest: bytes) -> Principal | None:
        key = self._keys.get(digest)
        if key is None:
            if not is_token(token):
                raise InvalidApiKey
        elif key.key_id in self._revoked:
            raise ApiKeyRevoked
        elif key.expires_at is not None and key.expires_at <= self.rt.clock():
            raise ApiKeyExpired
        if self._unconfirmed_secs() > TRUST_SECS:
            raise DatabaseUnavailable("no key can be confirmed: the log is unreadable", headers={"Retry-After": "1"})
        return key

    async def look_up(self, token: str, digest: bytes) -> Principal | None:
        changes = self._changes
        async with self.rt.db.connection() as conn:
            key = await store.find_by_digest(conn, digest)
        if key is None:
            return None
        self.exist = True
        state = key.state(self.rt.clock())
        if state != "active":
            raise (ApiKeyRevoked if state == "revoked" else ApiKeyExpired)()
        if changes == self._changes:  # what was read may be older than a change that was read meanwhile
            self._keep([key])
        return _principal(key)

    def is_valid(self, principal: Principal) -> bool:
        if principal.key_id is None or principal.key_id in self._revoked or self._unconfirmed_secs() > TRUST_SECS:
            return False
        known = self._keys.get(self._digests.get(principal.key_id, b""), principal)
        return known.expires_at is None or known.expires_at > self.rt.clock()

    def used(self, principal: Principal, client_ip: str) -> None:
        if principal.key_id is not None:
            self._used[principal.key_id] = (time.time(), client_ip)

    def on_events(self, events: Sequence[Event]) -> None:
        """Called by the tail with new events."""
        for event in events:
            if event.type in KEY_EVENTS:
                with suppress(msgspec.DecodeError):
                    read = msgspec.json.decode(event.payload, type=_KeyEvent)
                    ids = [read.id] if read.replaced_by is None else [read.id, read.replaced_by]
                    self._note(ids, revoked=event.type == KEY_REVOKED)

    def on_reset(self) -> None:
        """Called by the tail when the log, and with it the keys, was replaced."""
        self._reload = True
        self._revoked.clear()
        self._note([], revoked=False)

    async def changed(self, *ids: UUID) -> None:
        """Read keys again that this process has written; if that fails now, the loop goes on trying."""
        self._note(ids, revoked=False)
        with suppress(*RETRIABLE):
            await self._read_changed()

    def revoked(self, ids: Sequence[UUID]) -> None:
        """Refuse keys that this process has revoked, from now on."""
        if ids:
            self._note(ids, revoked=True)

    async def turn(self) -> float:
        loop = asyncio.get_running_loop()
        if self._reload:
            await self._load()
        if self._changed:
            await self._read_changed()
        if loop.time() >= self._mark_at:
            self._mark_at = loop.time() + MARK_EVERY_SECS
            await self._mark_used()
        return max(0.0, self._mark_at - loop.time())

    async def stop(self, grace_secs: float = 2.0) -> None:
        """End the loop, and mark the keys that were used since its last statement."""
        await super().stop(grace_secs)
        with suppress(*RETRIABLE, TimeoutError):
            async with asyncio.timeout(grace_secs):
                await self._mark_used()

    def _note(self, ids: Sequence[UUID], *, revoked: bool) -> None:
        self.exist = self.exist or bool(ids)
        self._changes += 1
        if revoked:
            self._revoked.update(ids)
            self.rt.get(Streams).end_invalid()
            return
        self._changed.update(ids)
        if self._changed_at is None:
            self._changed_at = asyncio.get_running_loop().time()
        self.wake()

    def _unconfirmed_secs(self) -> float:
        """Return for how long memory may have missed a change."""
        behind = self._behind()
        if self._changed_at is None:
            return behind
        return max(behind, asyncio.get_running_loop().time() - self._changed_at)

    async def _load(self) -> None:
        """Replace what memory holds by the live keys."""
        async with self._reading:
            started, self._reload = asyncio.get_running_loop().time(), False
            try:
                fresh = await self._read_live()
            except BaseException:
                self._reload = True
                raise
            self._keys = fresh
            self._digests = {key.key_id: digest for digest, key in fresh.items() if key.key_id is not None}
            self._confirmed_as_of(started)

    async def _read_live(self) -> dict[bytes, Principal]:
        fresh: dict[bytes, Principal] = {}
        after, now = FIRST_ID, self.rt.clock()
        async with self.rt.db.connection() as conn:
            self.exist = await store.exist(conn)
            while len(fresh) < MAX_KEYS:
                keys = await store.live(conn, after, LOAD_ROWS, now)
                fresh.update((key.digest, _principal(key)) for key in keys)
                if len(keys) < LOAD_ROWS:
                    break
                after = keys[-1].id
        return fresh

    async def _read_changed(self) -> None:
        async with self._reading:
            started = asyncio.get_running_loop().time()
            ids, self._changed = self._changed, set()
            try:
                async with self.rt.db.connection() as conn:
                    keys = await store.find(conn, list(ids))
            except BaseException:
                self._changed |= ids
                raise
            self._keep(keys)
            self._confirmed_as_of(started)
        self.rt.get(Streams).end_invalid()

    def _confirmed_as_of(self, started: float) -> None:
        self._changed_at = started if self._changed or self._reload else None

    async def _mark_used(self) -> None:
        changes = self._changes
        uses, self._used = self._used, {}
        if not uses:
            return
        try:
            async with self.rt.db.connection() as conn:
                keys = await store.mark_used(conn, uses)
        except BaseException:
            self._used = {**uses, **self._used}
            raise
        if changes == self._changes:
            self._keep(keys)

    def _keep(self, keys: Iterable[ApiKey]) -> None:
        for key in keys:
            if key.revoked_at is not None:
                self._revoked.add(key.id)
            self._keys[key.digest] = _principal(key)
            self._digests[key.id] = key.digest
        while len(self._keys) > MAX_KEYS:
            gone = self._keys.pop(next(iter(self._keys)))
            if gone.key_id is not None:
                self._digests.pop(gone.key_id, None)


def _principal(key: ApiKey | LiveKey) -> Principal:
    return Principal(
        actor=key.actor,
        kind=Kind.KEY,
        name=key.name,
        scopes=_scopes(key.scopes),
        expires_at=key.expires_at,
        rate_per_min=key.rate_per_min,
        key_id=key.id,
    )


@lru_cache(1000)
def _scopes(names: tuple[str, ...]) -> frozenset[Scope]:
    """Return the scopes that this version knows; many keys share one set."""
    known = {str(scope): scope for scope in Scope}
    return frozenset(known[name] for name in names if name in known)
