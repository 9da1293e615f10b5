"""Keeps the control plane's signed manifest fresh (contract, section 7)."""

from datetime import datetime, timedelta

from aitp_cp.runtime import Runtime
from aitp_cp.web.responses import Response, json_bytes

RENEW_BEFORE = timedelta(hours=1)
CACHED = {"Cache-Control": f"max-age={RENEW_BEFORE // timedelta(seconds=1)}"}


class OwnManifest:
    """The current signed envelope, rebuilt when less than an hour is left of it."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._current: tuple[Response, datetime] | None = None

    def response(self) -> Response:
        """Return the envelope as it is published; what is left of it is never less than caches may keep it."""
        current = self._current
        if current is None or current[1] - self._rt.clock() < RENEW_BEFORE:
            signed = self._rt.signer.manifest(self._rt.settings.cp_base_url)
            current = self._current = json_bytes(signed.body, headers=CACHED), signed.expires_at
        return current[0]
