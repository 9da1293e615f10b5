"""An agent's side of the protocol: its key and its manifest."""

import json

import aitp


class Agent:
    """An agent with a key from a 32-byte seed; the SDK builds and signs its manifest."""

    __slots__ = ("_sdk", "p256", "seed")

    def __init__(self, seed: bytes, *, p256: bool = False) -> None:
        self.seed = seed
        self.p256 = p256
        self._sdk = aitp.AitpAgent.from_seed(seed, "p256" if p256 else "ed25519")

    def __repr__(self) -> str:
        return f"Agent({self.aid})"

    @property
    def aid(self) -> str:
        return self._sdk.aid

    def pop_response(self, nonce: str, audience: str) -> bytes:
        """Return the signed response to a challenge."""
        return self._sdk.sign_envelope("pop_response", json.dumps({"nonce": nonce, "audience": audience})).encode()

    def manifest(self, name: str, endpoint: str, capabilities: list[str], ttl_secs: int = 86_400) -> bytes:
        """Return the signed envelope, published now."""
        return self._sdk.build_manifest(name, endpoint, capabilities, ttl_secs=ttl_secs).encode()
