"""Two processes on one database: what one accepts, the other publishes."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.revocation.support import ENTRIES, LIST, listed
from tests.support.app import AUTH
from tests.support.process import Process

ROUNDS = 100


@pytest.fixture
def replicas(database_url: str, tmp_path: Path) -> Iterator[list[httpx.Client]]:
    with (
        Process(database_url, tmp_path / "one") as one,
        Process(database_url, tmp_path / "two") as two,
        httpx.Client(base_url=one.url) as first,
        httpx.Client(base_url=two.url) as second,
    ):
        yield [first, second]


def test_a_revocation_is_in_the_other_list_within_a_second(replicas: list[httpx.Client]) -> None:
    took = []
    for number in range(ROUNDS):
        accepting, other = replicas if number % 2 else reversed(replicas)
        jti = str(uuid4())
        assert accepting.post(ENTRIES, json={"jti": jti}, headers=AUTH).status_code == 201
        started = time.monotonic()
        while jti not in listed(other.get(LIST)):
            assert time.monotonic() - started < 1, f"round {number}"
        took.append(time.monotonic() - started)
        assert jti in listed(accepting.get(LIST))
    assert len(took) == len(set(listed(replicas[0].get(LIST)))) == ROUNDS
