"""What an agent holds: `Reporter` for asyncio, `ThreadReporter` for plain threads."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from aitp_cp_client.reporting import events
from aitp_cp_client.reporting.engine import STOP_SECS, Engine, wait
from aitp_cp_client.reporting.events import Role, Unreportable
from aitp_cp_client.reporting.identity import Identity, aid_of
from aitp_cp_client.reporting.model import Counters, EventFields, Limits
from aitp_cp_client.reporting.sender import Sender
from aitp_cp_client.reporting.spool import Spool

log = logging.getLogger("aitp_cp_client.reporter")

CLOSE_SECS = 5.0


class _Reports:
    """The calls of both kinds. None of them blocks or raises; each returns the id of its event."""

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        spool: str | Path | None = None,
        limits: Limits | None = None,
        pinned: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Report to the control plane at `url` as `identity`: a `SigningKey`, an agent of the SDK, or an API key.

        `spool` is the path of an SQLite file that keeps events over a crash: one for each agent. `pinned` is the
        control plane's AID, which else is read from its manifest. Raises `ValueError` for arguments that cannot be
        right, and `OSError` for a spool that cannot be created.
        """
        bounds = limits or Limits()
        connect = partial(Sender, url, identity, limits=bounds, pinned=pinned, tls=tls)
        kept = None if spool is None else Spool(Path(spool), bounds.spool_bytes, aid_of(identity))
        self._engine = Engine(connect, bounds, kept)

    @property
    def counters(self) -> Counters:
        return self._engine.counters()

    def report(self, type: str, **fields: Unpack[EventFields]) -> str:
        """Queue an event with the members of docs/events.md; it gets an id and the time of this call."""
        return self._report(type, lambda: fields)

    def handshake_started(self, session_id: str, initiator: str, target: str, run_id: str | None = None) -> str:
        """Report a session, as `ResponderSession.process_hello` returns its id."""
        return self.report("handshake.started", session_id=session_id, run_id=run_id, aid_a=initiator, aid_b=target)

    def handshake_complete(self, session_id: str, completed: str, role: Role, *, run_id: str | None = None) -> str:
        """Report what `InitiatorSession.complete` returned, or the second part of what `process_commit` did.

        The token goes along, so that the control plane can verify it; it stores only the token's hash. The grant
        voucher stays here.
        """
        return self._report(
            "handshake.complete",
            lambda: {**events.completed(session_id, events.read_token(completed), role), "run_id": run_id},
        )

    def handshake_failed(
        self, session_id: str, error: BaseException | str, initiator: str, *, target: str, run_id: str | None = None
    ) -> str:
        """Report a handshake that failed; of an SDK's exception its `code`."""
        sides: EventFields = {"aid_a": initiator, "aid_b": target}
        return self._report(
            "handshake.failed",
            lambda: {**sides, "session_id": session_id, "run_id": run_id, "payload": {"error": events.text_of(error)}},
        )

    def tct_issued(self, token: str, *, session_id: str | None = None, run_id: str | None = None) -> str:
        """Report a token outside a handshake: compact, or the JSON of `issue_tct_for_delegatee`."""
        return self._report("tct.issued", lambda: _about(events.issued, token, session_id, run_id))

    def tct_renewed(self, token: str, *, session_id: str | None = None, run_id: str | None = None) -> str:
        """Report a token that `process_renewal_request` returned."""
        return self._report("tct.renewal.issued", lambda: _about(events.issued, token, session_id, run_id))

    def tct_revoked(self, jti: str, reason: str | None = None, *, run_id: str | None = None) -> str:
        """Report that this agent has revoked a token which it issued."""
        return self.report("tct.revoked", run_id=run_id, payload={"jti": jti, "reason": reason})

    def delegation_issued(self, token: str, *, session_id: str | None = None, run_id: str | None = None) -> str:
        """Report what `build_delegation` returned."""
        return self._report("delegation.issued", lambda: _about(events.delegated, token, session_id, run_id))

    def delegation_revoked(self, token: str, reason: str | None = None, *, run_id: str | None = None) -> str:
        """Report that this agent has revoked a delegation: its jti, or the token if it has none."""
        named = {"delegation": token} if "." in str(token) else {"jti": token}
        return self.report("delegation.revoked", run_id=run_id, payload={**named, "reason": reason})

    def _report(self, type: str, fields: Callable[[], EventFields]) -> str:
        members: EventFields = {}
        id = ""
        try:
            members = fields()
            id = members.get("id") or events.new_id()
            self._engine.worker.put(events.encode_event(id, type, members))
        except Unreportable as error:
            self._refuse(str(error))
        except Exception as error:
            self._refuse(f"the event cannot be reported: {events.type_name(error)}")
        return id or events.new_id()

    def _refuse(self, reason: str) -> None:
        with suppress(Exception):
            self._engine.worker.tally.refuse(reason)
            log.warning("report_refused reason=%s", reason)


def _about(
    describe: Callable[[events.Token], EventFields], token: str, session_id: str | None, run_id: str | None
) -> EventFields:
    return {**describe(events.read_token(token)), "session_id": session_id, "run_id": run_id}


class ThreadReporter(_Reports):
    """For programs without an event loop; every call from any thread."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what was reported so far was sent, refused or dropped; return whether that came in time."""
        return wait(self._engine.worker.reach("sent"), timeout)

    def safe(self, timeout: float | None = None) -> bool:
        """Wait until what was reported so far survives this process: in the spool, or with the control plane."""
        return wait(self._engine.worker.reach("safe"), timeout)

    def close(self, deadline: float = CLOSE_SECS) -> bool:
        """Send what is left within this many seconds; return whether nothing was lost. A spool keeps the rest."""
        return self._engine.close(deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Reporter(_Reports):
    """For asyncio: `report` is an ordinary call, and only these wait. Not bound to one event loop."""

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until what was reported so far was sent, refused or dropped; return whether that came in time."""
        return await _wait(self._engine.worker.reach("sent"), timeout)

    async def safe(self, timeout: float | None = None) -> bool:
        """Wait until what was reported so far survives this process: in the spool, or with the control plane."""
        return await _wait(self._engine.worker.reach("safe"), timeout)

    async def close(self, deadline: float = CLOSE_SECS) -> bool:
        """Send what is left within this many seconds; return whether nothing was lost. A spool keeps the rest."""
        worker = self._engine.worker
        until = time.monotonic() + deadline
        await _wait(worker.begin_close(), deadline)
        await _wait(worker.begin_stop(), max(0.0, until - time.monotonic()) + STOP_SECS)
        return self._engine.finish()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


async def _wait(future: "Future[bool]", secs: float | None) -> bool:
    try:
        async with asyncio.timeout(secs):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        return False
