"""The Idempotency-Key header in front of a handler."""

import hashlib

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.idempotency.model import Answer, Once
from aitp_cp.idempotency.service import Effect, check_key, run_once
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.responses import encode, json_response


async def answer_once(
    rt: Runtime, request: Request, *, endpoint: str, caller: str, body: bytes, effect: Effect
) -> Response:
    """Run `effect` in one transaction, at most once per caller, endpoint, key and body."""
    key = check_key(request.headers.get("idempotency-key"))
    once = Once(endpoint, caller, key, hashlib.sha256(body).digest())
    answer = await run_once(rt.db, once, effect, encode, rt.clock())
    return respond(request, answer)


def respond(request: Request, answer: Answer) -> Response:
    """Return the response of an answer that was made or found under an Idempotency-Key."""
    context_of(request).error = answer.refusal  # for the line of log; a refusal without a key is raised up to the edge
    headers = {"Idempotency-Replayed": "true"} if answer.replayed else None
    return json_response(answer.body, answer.status, headers)
