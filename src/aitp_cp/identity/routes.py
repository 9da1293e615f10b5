"""The well-known manifest, and the handshake that never happens here."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.errors import HandshakeUnsupported
from aitp_cp.identity.service import OwnManifest
from aitp_cp.runtime import Runtime
from aitp_cp.web.endpoint import Bucket, Endpoint, Gate


async def own_manifest(rt: Runtime, request: Request) -> Response:
    return rt.get(OwnManifest).response()


async def refuse_handshake(rt: Runtime, request: Request) -> Response:
    raise HandshakeUnsupported


endpoint = partial(Endpoint, tag="identity")

ENDPOINTS = (
    *(
        endpoint(
            f"GET {path}",
            own_manifest,
            "The control plane's own signed manifest",
            gate=Gate.OPEN,
            bucket=bucket,
            responses={200: dict},
        )
        for path, bucket in (
            ("/.well-known/aitp-manifest", Bucket.EXEMPT),
            ("/api/well-known/aitp-manifest", Bucket.PUBLIC_IP),
        )
    ),
    endpoint(
        "POST /api/aitp/handshake/hello",
        refuse_handshake,
        "Always refused: the control plane never takes part in a handshake",
        gate=Gate.OPEN,
        responses={},
        errors=(HandshakeUnsupported,),
    ),
)
