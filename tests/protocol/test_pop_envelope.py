"""The signed answer to a challenge: the SDK checks the signature, we check audience, sender and time."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from aitp_cp.errors import BodyInvalid, ProofInvalid
from aitp_cp.protocol import pop_envelope
from aitp_cp_client.wire.aid import Aid
from tests.support.agents import Suite, new_agent
from tests.support.signed import pop_response

CP = Aid(new_agent().aid)
AGENT = new_agent()
SECONDS = 1_800_000_000
NOW = datetime.fromtimestamp(SECONDS, UTC)


def envelope(**members: Any) -> bytes:
    """An answer of `AGENT` with some members replaced after it was signed."""
    signed = json.loads(pop_response(AGENT.sdk, "n", CP, timestamp=SECONDS))
    return json.dumps({**signed, **members}).encode()


def refused(body: bytes, now: datetime = NOW) -> str:
    with pytest.raises(ProofInvalid) as caught:
        pop_envelope.verify(pop_envelope.read(body, CP, now))
    return str(caught.value.extra["reason"])


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
def test_an_answer_of_the_sdk_is_accepted(suite: Suite) -> None:
    agent = new_agent(suite)
    read = pop_envelope.read(pop_response(agent.sdk, "n", CP, timestamp=SECONDS).encode(), CP, NOW)
    assert (read.aid, read.nonce) == (agent.aid, "n")
    assert pop_envelope.needs_thread(read) == (suite == "p256")
    pop_envelope.verify(read)


@pytest.mark.parametrize("off", [-300, 300])
def test_clocks_may_be_five_minutes_apart(off: int) -> None:
    body = pop_response(AGENT.sdk, "n", CP, timestamp=SECONDS + off).encode()
    pop_envelope.verify(pop_envelope.read(body, CP, NOW))
    further = pop_response(AGENT.sdk, "n", CP, timestamp=SECONDS + off + (1 if off > 0 else -1)).encode()
    assert refused(further) == "time"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"message_type": "mutual_hello"}, "envelope"),
        ({"message_type": None}, "envelope"),
        ({"payload": {"nonce": "n", "audience": AGENT.aid}}, "audience"),
        ({"payload": {"nonce": "n"}}, "audience"),
        ({"payload": "x"}, "audience"),
        ({"payload": {"nonce": "other", "audience": CP}}, "signature"),
        ({"sender": {"agent_id": "x"}}, "envelope"),
        ({"sender": None}, "envelope"),
        ({"sender": {"agent_id": new_agent().aid}}, "signature"),
        ({"timestamp": "1800000000"}, "envelope"),
        ({"timestamp": True}, "envelope"),
        ({"timestamp": SECONDS + 1}, "signature"),
        ({"timestamp": 2**70}, "time"),
        ({"version": "aitp/0.2"}, "envelope"),
        ({"more": 1}, "envelope"),
        ({"signature": "x"}, "envelope"),
    ],
)
def test_whatever_was_changed_is_refused(members: dict[str, Any], reason: str) -> None:
    assert refused(envelope(**members)) == reason


def test_a_member_that_stands_there_twice_is_refused() -> None:
    assert refused(envelope().replace(b'{"version"', b'{"timestamp": 1, "version"')) == "envelope"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"1", b'"x"', b"[" * 100])
def test_what_is_no_object_is_an_invalid_body(body: bytes) -> None:
    with pytest.raises(BodyInvalid):
        pop_envelope.read(body, CP, NOW)
