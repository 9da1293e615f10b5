"""The Idempotency-Key header in front of a handler."""

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.db import Connection
from aitp_cp.errors import AppError
from aitp_cp.idempotency.model import Answer
from aitp_cp.idempotency.service import Effect, check_key, once_for, run_once
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.responses import json_response


async def answer_once(
    rt: Runtime, request: Request, *, endpoint: str, caller: str, body: bytes, effect: Effect
) -> Response:
    """Run `effect` in one transaction, at most once per caller, endpoint, key and body."""
    once = once_for(endpoint, caller, check_key(request.headers.get("idempotency-key")), body)
    return respond(request, await run_once(rt.db, once, effect, rt.clock()))


async def refuse_once(
    rt: Runtime, request: Request, *, endpoint: str, caller: str, body: bytes, refused: AppError
) -> Response:
    """Answer with an error found in the request itself.

    The error is stored under the key too, and another body under a known key is refused for that.
    """

    async def effect(_: Connection) -> Answer:
        raise refused

    return await answer_once(rt, request, endpoint=endpoint, caller=caller, body=body, effect=effect)


def respond(request: Request, answer: Answer) -> Response:
    """Return the response of a fresh or a stored answer."""
    context_of(request).error = answer.refusal  # for the access line; a refusal without a key is raised up to the edge
    headers = {"Idempotency-Replayed": "true"} if answer.replayed else None
    return json_response(answer.body, answer.status, headers)
