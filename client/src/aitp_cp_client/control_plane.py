"""One object per control plane, with a room for each part of its API."""

import ssl
from datetime import timedelta
from types import TracebackType
from typing import Self

from aitp_cp_client import health, published
from aitp_cp_client.agents import Agents
from aitp_cp_client.audit import Audit
from aitp_cp_client.dashboard import Dashboard
from aitp_cp_client.events import Events
from aitp_cp_client.health import Health, Readiness
from aitp_cp_client.options import Retries, Timeouts, base_url, proxy_of_environment
from aitp_cp_client.published import Manifest, RevocationList
from aitp_cp_client.revocation import Revocations
from aitp_cp_client.sessions import Sessions
from aitp_cp_client.tokens import Delegations, Tcts
from aitp_cp_client.transport import Transport
from aitp_cp_client.trust import PinnedKeys, TrustAnchors
from aitp_cp_client.webhooks import Webhooks


class ControlPlane:
    """An async context manager; for one event loop, any number of calls at once.

    The key is sent only where one is needed, never to another host, and shown nowhere. Every call raises
    `ControlPlaneError`; arguments that cannot be right raise `ValueError`.
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
        self.events = Events(transport)
        self.sessions = Sessions(transport)
        self.tcts = Tcts(transport)
        self.delegations = Delegations(transport)
        self.revocations = Revocations(transport)
        self.webhooks = Webhooks(transport)
        self.trust_anchors = TrustAnchors(transport)
        self.pinned_keys = PinnedKeys(transport)
        self.audit = Audit(transport)
        self.dashboard = Dashboard(transport)

    def __repr__(self) -> str:  # without the key
        return f"ControlPlane({self._transport.url!r})"

    async def health(self) -> Health:
        """Also while the database is away."""
        return await health.health(self._transport)

    async def readiness(self) -> Readiness:
        """Whether the process should get traffic; also while it should not."""
        return await health.readiness(self._transport)

    async def manifest(self, pinned: str | None = None) -> Manifest:
        """The control plane's own manifest, verified; see `published.manifest`."""
        return await published.manifest(self._transport, pinned)

    async def revocation_list(self, pinned: str | None = None, max_age: timedelta | None = None) -> RevocationList:
        """The signed list, verified as a peer would; see `published.revocation_list`."""
        return await published.revocation_list(self._transport, pinned, max_age)

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
