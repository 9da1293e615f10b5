"""Keeps the control plane's signed manifest fresh (contract, section 7)."""

import asyncio
from datetime import timedelta

from aitp_cp.protocol.signer import SignedManifest
from aitp_cp.runtime import Runtime

RENEW_BEFORE = timedelta(hours=1)


class OwnManifest:
    """The current signed envelope, rebuilt when less than an hour is left of it."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._lock = asyncio.Lock()
        self._current: SignedManifest | None = None

    async def body(self) -> bytes:
        """The envelope as JSON bytes."""
        current = self._current
        if current is None or current.expires_at - self._rt.clock() < RENEW_BEFORE:
            current = await self._rebuilt()
        return current.body

    async def _rebuilt(self) -> SignedManifest:
        async with self._lock:
            current = self._current
            if current is None or current.expires_at - self._rt.clock() < RENEW_BEFORE:
                current = self._current = self._rt.signer.manifest(self._rt.settings.cp_base_url)
            return current
