"""The Idempotency-Key header in front of a handler."""

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.db import Connection
from aitp_cp.errors import AppError
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.idempotency.service import Effect, check_key, once_for, run_once
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.responses import json_response


async def reply_once(
    rt: Runtime, request: Request, *, endpoint: str, caller: str, body: bytes, effect: Effect
) -> Response:
    """Run `effect` in one transaction, at most once per caller, endpoint, key and body."""
    once = once_for(endpoint, caller, check_key(request.headers.get("idempotency-key")), body)
    return respond(request, await run_once(rt.db, once, effect, rt.clock()))


async def refuse_once(
    rt: Runtime, request: Request, *, endpoint: str, caller: str, body: bytes, refused: AppError
) -> Response:
    """Respond with an error found in the request itself.

    The error is stored under the key too, and another body under a known key is refused for that.
    """

    async def effect(_: Connection) -> ApiResponse:
        raise refused

    return await reply_once(rt, request, endpoint=endpoint, caller=caller, body=body, effect=effect)


def respond(request: Request, response: ApiResponse) -> Response:
    """Return the response of a fresh or a stored effect."""
    context_of(request).error = response.refusal  # for the access line; without a key it is raised
    headers = {"Idempotency-Replayed": "true"} if response.replayed else None
    return json_response(response.body, response.status, headers)
