"""The client: one object per control plane, with an attribute for each part of its API."""

import ssl
from datetime import timedelta
from types import TracebackType
from typing import Self

from aitp_cp_client import notes, published
from aitp_cp_client.agents import Agents
from aitp_cp_client.audit import Audit
from aitp_cp_client.containments import Containments
from aitp_cp_client.dashboard import Dashboard
from aitp_cp_client.events import Events
from aitp_cp_client.health import Health, Readiness
from aitp_cp_client.keys import Keys, WhoAmI
from aitp_cp_client.notes import Hit, Notes
from aitp_cp_client.options import Retries, Timeouts, base_url, proxy_of_environment
from aitp_cp_client.published import Manifest, RevocationList
from aitp_cp_client.revocation import Revocations
from aitp_cp_client.sessions import Sessions
from aitp_cp_client.tokens import Delegations, Tcts
from aitp_cp_client.transport import Call, Response, Transport
from aitp_cp_client.trust import PinnedKeys, TrustAnchors
from aitp_cp_client.webhooks import Webhooks


class ControlPlane:
    """An async context manager for one event loop; calls may run concurrently.

    The API key is sent only to endpoints that need it, never to another host, and never shown. Every call may raise
    `ControlPlaneError`; invalid arguments raise `ValueError`.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        environment_proxies: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        base = base_url(url)
        transport = self._transport = Transport(
            base,
            api_key,
            timeouts=timeouts or Timeouts(),
            retries=retries or Retries(),
            proxy=proxy_of_environment(base) if environment_proxies else None,
            tls=tls,
        )
        self.agents = Agents(transport)
        self.notes = Notes(transport)
        self.containments = Containments(transport)
        self.events = Events(transport)
        self.sessions = Sessions(transport)
        self.tcts = Tcts(transport)
        self.delegations = Delegations(transport)
        self.revocations = Revocations(transport)
        self.webhooks = Webhooks(transport)
        self.trust_anchors = TrustAnchors(transport)
        self.pinned_keys = PinnedKeys(transport)
        self.audit = Audit(transport)
        self.keys = Keys(transport)
        self.dashboard = Dashboard(transport)

    def __repr__(self) -> str:  # without the key
        return f"ControlPlane({self._transport.url!r})"

    async def health(self) -> Health:
        """Return the health, also while the database is unavailable."""
        return (await self._probe("/api/health")).read(Health)

    async def readiness(self) -> Readiness:
        """Return whether the process is ready for traffic."""
        return (await self._probe("/api/readyz")).read(Readiness)

    async def whoami(self) -> WhoAmI:
        """Return who the key belongs to, and what it may do."""
        return await self._transport.ask(WhoAmI, "/api/whoami")

    async def search(self, q: str) -> list[Hit]:
        """Return what has this id, and agents by the beginning of a name, as far as the key may read it."""
        return await notes.search(self._transport, q)

    async def manifest(self, pinned: str | None = None) -> Manifest:
        """Return the control plane's verified manifest; see `published.manifest`."""
        return await published.manifest(self._transport, pinned)

    async def revocation_list(
        self,
        pinned: str | None = None,
        max_age: timedelta | None = None,
        *,
        held: RevocationList | None = None,
        proof: str | None = None,
    ) -> RevocationList:
        """Return the verified revocation list; see `published.revocation_list`."""
        return await published.revocation_list(self._transport, pinned, max_age, held=held, proof=proof)

    async def close(self) -> None:
        await self._transport.close()

    async def _probe(self, path: str) -> Response:
        return await self._transport.send(Call(path=path, gated=False, repeatable=False, answers=(503,)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
