"""Shake hands between two agents with the SDK, and report both sides to the control plane.

Usage: handshake.py [URL of the control plane]. If it requires a key, set API_KEY to one with the role reporter
(docs/keys.md). Writes the initiator's seed and token to .aitp-cp/peer.json, for peer.py.
"""

import base64
import json
import os
import secrets
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import aitp

CONTROL_PLANE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:4000"
GRANT = "demo.echo"


def report(*events: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    if "API_KEY" in os.environ:
        headers["Authorization"] = f"Bearer {os.environ['API_KEY']}"
    body = json.dumps([{"run_id": "example", "ts": time.time(), **event} for event in events]).encode()
    urllib.request.urlopen(urllib.request.Request(f"{CONTROL_PLANE}/api/events", body, headers)).close()


def issued(completed: str) -> dict[str, Any]:
    """Return the token in a completed handshake, with its decoded claims."""
    token = json.loads(completed)["tct"]
    claims = token.split(".")[1]
    return {"token": token, "claims": json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))}


seed = secrets.token_bytes(32)
alice, bob = aitp.AitpAgent.from_seed(seed, "ed25519"), aitp.AitpAgent.generate()
alice.build_manifest("alice", "https://alice.example/aitp", [GRANT])
peer = bob.build_manifest("bob", "https://bob.example/aitp", [GRANT])
initiator = alice.new_session(pinned_keys=[bob.aid])
responder = bob.new_responder(pinned_keys=[alice.aid])

hello_ack, session = responder.process_hello(initiator.build_hello(peer, [GRANT]))
report({"type": "handshake.started", "session_id": session, "initiator": alice.aid, "target": bob.aid})
commit = initiator.process_hello_ack(hello_ack, session)
commit_ack, issued_to_bob = responder.process_commit(commit, revoked_jtis=set())
issued_to_alice = initiator.complete(commit_ack, revoked_jtis=set())

complete = {"type": "handshake.complete", "session_id": session, "grants": [GRANT]}
tct = issued(issued_to_alice)
report({**complete, "role": "initiator", "tct": tct}, {**complete, "role": "responder", "tct": issued(issued_to_bob)})

state = Path(".aitp-cp/peer.json")
state.parent.mkdir(exist_ok=True)
state.write_text(json.dumps({"seed": seed.hex(), "token": tct["token"], "grant": GRANT}))
print(f"session={session}\njti={tct['claims']['jti']}")
