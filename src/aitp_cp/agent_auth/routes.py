"""POST /api/agent-auth/challenge and /api/agent-auth/token."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.agent_auth import service
from aitp_cp.agent_auth.model import AgentToken, Challenge, ChallengeRequest
from aitp_cp.errors import AgentContained, ProofInvalid
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import decode, read_body
from aitp_cp.web.endpoint import Bucket, Endpoint, Gate, Link
from aitp_cp.web.responses import json_response


async def challenge(rt: Runtime, request: Request) -> Response:
    body = decode(await read_body(request), ChallengeRequest)
    return json_response(await service.challenge(rt, body.aid))


async def token(rt: Runtime, request: Request) -> Response:
    return json_response(await service.issue_token(rt, await read_body(request)))


endpoint = partial(Endpoint, tag="agent-auth")

ENDPOINTS = (
    endpoint(
        "POST /api/agent-auth/challenge",
        challenge,
        "Get a nonce that this agent can sign within 60 seconds",
        gate=Gate.OPEN,
        bucket=Bucket.AGENT_AUTH_IP,
        body=ChallengeRequest,
        responses={200: Challenge},
        errors=(AgentContained,),
        # The nonce is signed before it is sent, which no link can say.
        leads_to=(Link("POST /api/agent-auth/token"),),
    ),
    endpoint(
        "POST /api/agent-auth/token",
        token,
        "Exchange the signed nonce, an SDK envelope of type `pop_response`, for an agent token",
        gate=Gate.OPEN,
        bucket=Bucket.AGENT_AUTH_IP,
        body=dict,
        responses={200: AgentToken},
        errors=(ProofInvalid, AgentContained),
    ),
)
