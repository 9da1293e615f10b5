"""A peer asks the signed revocation list whether it may still act on the token that handshake.py kept.

Usage: peer.py [control plane's URL]. Exits 1 when the SDK refuses the token.
"""

import json
import sys
import urllib.request
from pathlib import Path

import aitp

CONTROL_PLANE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:4000"


def read(path: str) -> str:
    with urllib.request.urlopen(CONTROL_PLANE + path) as answer:
        return str(answer.read().decode())


kept = json.loads(Path(".aitp-cp/peer.json").read_text())
holder = aitp.AitpAgent.from_seed(bytes.fromhex(kept["seed"]), "ed25519")

manifest = read("/.well-known/aitp-manifest")
aitp.verify_manifest_json(manifest)
issuer = json.loads(manifest)["manifest"]["aid"]  # in earnest this is pinned, not asked for
revocations = read("/.well-known/aitp-revocation-list")
aitp.verify_revocation_list(revocations, issuer)
revoked = {entry["jti"] for entry in json.loads(revocations)["revocation_list"]["entries"]}

try:
    print("good:", holder.verify_tct(kept["token"], kept["grant"], revoked_jtis=revoked).jti)
except RuntimeError as refused:
    sys.exit(f"refused: {getattr(refused, 'code', refused)}")
