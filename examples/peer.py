"""Verify the token of handshake.py against the signed revocation list, as a peer does.

Usage: peer.py [URL of the control plane]. Exits with 1 when the SDK refuses the token.
"""

import json
import sys
import urllib.request
from pathlib import Path

import aitp

CONTROL_PLANE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:4000"


def read(path: str) -> str:
    with urllib.request.urlopen(CONTROL_PLANE + path) as response:
        return str(response.read().decode())


if not (stored := Path(".aitp-cp/peer.json")).exists():
    sys.exit("there is no token to verify: run examples/handshake.py first")
state = json.loads(stored.read_text())
holder = aitp.AitpAgent.from_seed(bytes.fromhex(state["seed"]), "ed25519")

manifest = read("/.well-known/aitp-manifest")
aitp.verify_manifest_json(manifest)
issuer = json.loads(manifest)["manifest"]["aid"]  # in production: pinned, not fetched
revocations = read("/.well-known/aitp-revocation-list")
aitp.verify_revocation_list(revocations, issuer)
revoked = {entry["jti"] for entry in json.loads(revocations)["revocation_list"]["entries"]}

try:
    print("good:", holder.verify_tct(state["token"], state["grant"], revoked_jtis=revoked).jti)
except RuntimeError as error:
    sys.exit(f"refused: {getattr(error, 'code', error)}")
