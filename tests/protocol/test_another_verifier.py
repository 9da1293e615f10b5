"""Verdicts beside those of PyPI `aitp-verifier`, which its authors wrote from the specification alone.

Of its vectors, the keys apply: they lie in the package. Its cases for tokens are in the specification's repository.
"""

import json
from collections.abc import Callable
from functools import partial
from importlib import resources
from time import time
from typing import Any

import pytest
from aitp_verifier.delegation import verify_delegation_token
from aitp_verifier.errors import AitpError
from aitp_verifier.tct import verify_tct
from aitp_verifier.voucher import verify_grant_voucher

from aitp_cp.protocol.verdicts import Verdict, check
from aitp_cp_client import SigningKey
from tests.protocol.test_verdicts import (
    ALPHABET,
    CORPUS,
    DELEGATIONS,
    HEADERS,
    NO_TOKENS,
    OTHER_ROOT,
    ROOT,
    TCT,
    TCT_CLAIMS,
    VOUCHER_CLAIMS,
    tct,
    voucher,
)
from tests.support.agents import compact

KEYS = json.loads(resources.files("aitp_verifier").joinpath("kat/keypairs.json").read_text())["vectors"]


# It takes what the SDK refuses, and so do verdicts: its checks of these claims are fewer.
LAXER = {
    "tct: extensions no object", "tct: exp of 64 bits", "tct: audience is not subject", "tct: iat a fraction",
    "tct: audience spelled otherwise", "tct: no grants", "voucher: source of version 1",
    "delegation: jti of version 1", "delegation: no scope", "delegation: key of another",
}  # fmt: skip
# It has no chain of no hops, which the SDK takes for a single hop.
STRICTER = {"delegation: empty chain", "delegation: null chain"}


def takes(verify: Callable[..., Any], **asked: Any) -> bool:
    try:
        verify({**asked, "policy": {"fail_mode": "fail_open"}}, int(time()))
    except (AitpError, ValueError, TypeError):
        return False
    return True


def takes_tct(token: str) -> bool:
    return takes(verify_tct, tct_token=token)


def takes_voucher(token: str) -> bool:
    return takes(verify_grant_voucher, voucher_token=token)


def takes_delegation(token: str, audience: str = OTHER_ROOT.aid) -> bool:
    multihop = "experimental-multihop-delegation"
    return takes(verify_delegation_token, delegation_token=token, self_aid=audience, _feature=multihop)


def agrees(name: str, token: str, taken: bool) -> bool:
    """Whether it says what the verdict says, but for what is named above."""
    if name in STRICTER:
        return verified(token) and not taken
    return taken is (verified(token) or name in LAXER)


def verified(token: str) -> bool:
    return check(token).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("vector", KEYS, ids=lambda vector: str(vector["id"]))
def test_its_keys_have_the_same_aids(vector: dict[str, str]) -> None:
    suite = "p256" if vector.get("algorithm") == "p256" else "ed25519"
    seed = bytes.fromhex(vector["private_scalar_hex" if suite == "p256" else "seed_hex"])
    key = SigningKey.from_seed(seed, "p256" if suite == "p256" else "ed25519")
    assert key.aid == vector.get("untagged_aid", vector["aid"])


def test_it_agrees_on_real_tokens_and_on_every_changed_character() -> None:
    checks = {"tct": takes_tct, "voucher": takes_voucher, "delegation": takes_delegation, "two hops": takes_delegation}
    for name, (token, _) in CORPUS.items():
        take = checks[name.removesuffix(" of p256")]
        if name == "delegation of p256":
            take = partial(takes_delegation, audience=ROOT.aid)
        assert take(token), name
        for place, old in enumerate(token):
            changed = token[:place] + (ALPHABET[ALPHABET.index(old) - 1] if old != "." else "A") + token[place + 1 :]
            assert not take(changed), (name, place)
            assert not verified(changed), (name, place)


@pytest.mark.parametrize("name", TCT_CLAIMS)
def test_it_agrees_on_the_claims_of_a_tct(name: str) -> None:
    token = tct(**TCT_CLAIMS[name])
    assert agrees(f"tct: {name}", token, takes_tct(token))


def test_it_agrees_on_headers_and_on_what_is_no_token() -> None:
    for token in (*NO_TOKENS, *(ROOT.sign_parts(compact(header), compact(TCT)) for header in HEADERS)):
        assert not verified(token)
        assert not takes_tct(token) or token is NO_TOKENS[-1]  # a grant with U+0000, which no table holds


@pytest.mark.parametrize("name", VOUCHER_CLAIMS)
def test_it_agrees_on_the_claims_of_a_voucher(name: str) -> None:
    token = voucher(**VOUCHER_CLAIMS[name])
    if name == "ended long ago":  # verdicts mind no expiry: reports come late
        assert not takes_voucher(token)
    else:
        assert agrees(f"voucher: {name}", token, takes_voucher(token))


@pytest.mark.parametrize("name", DELEGATIONS)
def test_it_agrees_on_delegations(name: str) -> None:
    token = DELEGATIONS[name]()
    assert agrees(f"delegation: {name}", token, takes_delegation(token))
