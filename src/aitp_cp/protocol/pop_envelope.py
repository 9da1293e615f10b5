"""The signed response to a challenge: an SDK envelope of type `pop_response` (contract, section 20)."""

from datetime import datetime
from typing import Any

import aitp
import msgspec

from aitp_cp.errors import BodyInvalid
from aitp_cp.protocol import json_guard
from aitp_cp.protocol.agent_token import Reason, proof_invalid
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire.aid import Aid

MESSAGE_TYPE = "pop_response"
MAX_CLOCK_SKEW_SECS = 300


class PopEnvelope(msgspec.Struct, frozen=True):
    """An envelope whose signature nobody has checked yet; `raw` is its JSON as it came."""

    aid: Aid
    nonce: object
    raw: str


def read(body: bytes, audience: Aid, now: datetime) -> PopEnvelope:
    """Return the sender and nonce of an envelope meant for `audience`, before any signature is checked.

    Raises `BodyInvalid` for what is not a JSON object, and `ProofInvalid`. The SDK leaves audience and time to us.
    """
    envelope = json_guard.decode(body)
    if not isinstance(envelope, dict):
        raise BodyInvalid("the body must be a JSON object")
    if envelope.get("message_type") != MESSAGE_TYPE:
        raise proof_invalid("envelope", f"message_type must be {MESSAGE_TYPE}")
    payload = _object(envelope.get("payload"))
    if aids.recognise(payload.get("audience")) != audience:
        raise proof_invalid("audience", "payload.audience is not the AID of this control plane")
    aid = aids.recognise(_object(envelope.get("sender")).get("agent_id"))
    if aid is None:
        raise proof_invalid("envelope", "sender.agent_id is not an AID")
    _check_time(envelope.get("timestamp"), now)
    return PopEnvelope(aid, payload.get("nonce"), body.decode())


def needs_thread(envelope: PopEnvelope) -> bool:
    """Return whether checking the signature takes a millisecond (P-256) rather than a tenth of one (Ed25519)."""
    return aids.suite(envelope.aid) == "p256"


def verify(envelope: PopEnvelope) -> None:
    """Check structure and signature under the key in the sender's AID; raises `ProofInvalid`."""
    try:
        aitp.verify_envelope(envelope.raw, envelope.aid)
    except aitp.EnvelopeVerificationError as refused:
        reason: Reason = "signature" if refused.code == "INVALID_SIGNATURE" else "envelope"
        raise proof_invalid(reason, "the envelope does not verify", verifyCode=refused.code) from refused
    except ValueError as refused:
        raise proof_invalid("envelope", "the envelope is malformed") from refused


def _check_time(timestamp: object, now: datetime) -> None:
    if not isinstance(timestamp, int) or isinstance(timestamp, bool):
        raise proof_invalid("envelope", "timestamp is not a whole number of seconds")
    if abs(timestamp - int(now.timestamp())) > MAX_CLOCK_SKEW_SECS:
        raise proof_invalid("time", "timestamp is more than 5 minutes away from this control plane's clock")


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
