"""Challenge and token: an agent answers a nonce with its key, and gets a token for 15 minutes."""

import asyncio

from aitp_cp.agent_auth import store
from aitp_cp.agent_auth.model import AgentToken, Challenge
from aitp_cp.errors import BodyInvalid
from aitp_cp.protocol import pop_envelope
from aitp_cp.protocol.agent_token import LIFETIME_SECS, NONCE_LIFETIME_SECS, AgentTokens, proof_invalid
from aitp_cp.registry import contained
from aitp_cp.runtime import Runtime
from aitp_cp_client.wire import aid as aids


async def challenge(rt: Runtime, aid: str) -> Challenge:
    """Return a nonce for this agent; raises `BodyInvalid` and `AgentContained`. Anybody may ask: nothing is stored."""
    canonical = aids.recognise(aid)
    if canonical is None:
        raise BodyInvalid("aid is not an AID")
    async with rt.db.connection() as conn:
        await contained.check_free(conn, canonical)
    nonce = rt.get(AgentTokens).nonce(canonical, rt.clock())
    return Challenge(nonce, rt.signer.aid, NONCE_LIFETIME_SECS)


async def issue_token(rt: Runtime, body: bytes) -> AgentToken:
    """Return a token for the sender of a signed response; raises `BodyInvalid`, `ProofInvalid` and `AgentContained`.

    The nonce is checked before the signature: only who has asked for one makes us do public-key work.
    """
    tokens, now = rt.get(AgentTokens), rt.clock()
    envelope = pop_envelope.read(body, rt.signer.aid, now)
    nonce = tokens.read_nonce(envelope.nonce, envelope.aid, now)
    if pop_envelope.needs_thread(envelope):
        await asyncio.to_thread(pop_envelope.verify, envelope)
    else:
        pop_envelope.verify(envelope)
    async with rt.db.connection() as conn:
        await contained.check_free(conn, envelope.aid)
        if not await store.use_nonce(conn, nonce.id, nonce.expires_at):
            raise proof_invalid("replayed", "the nonce was already used: ask for a new challenge")
    return AgentToken(tokens.token(envelope.aid, rt.clock()), LIFETIME_SECS, envelope.aid)
