"""A challenge, and the token for a signed response to it."""

import msgspec


class ChallengeRequest(msgspec.Struct, frozen=True):
    aid: str


class Challenge(msgspec.Struct, frozen=True, rename="camel"):
    """What the agent signs: an SDK envelope of type `pop_response` with the payload `{nonce, audience}`."""

    nonce: str
    audience: str
    expires_in: int


class AgentToken(msgspec.Struct, frozen=True, rename="camel"):
    token: str
    expires_in: int
    aid: str
