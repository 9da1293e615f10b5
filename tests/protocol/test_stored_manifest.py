from datetime import UTC, datetime

import pytest

from aitp_cp.protocol import manifest as manifests
from aitp_cp.protocol.stored_manifest import published_at, signature
from tests.support.agents import manifest, new_agent


def test_a_stored_envelope_says_the_same_as_when_it_was_verified() -> None:
    now = datetime.now(UTC)
    found = manifests.verify(manifest(new_agent(), published_at=int(now.timestamp())), now, production=True)
    assert signature(found.raw) == found.signature
    assert published_at(found.raw) == found.published_at


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"manifest":{"published_at":"x"}}'])
def test_what_an_older_deployment_may_have_left_behind_has_no_date(text: str) -> None:
    assert published_at(text) is None


def test_a_date_beyond_all_calendars_is_no_date() -> None:
    assert published_at('{"manifest":{"published_at":99999999999999999}}') is None
    assert signature("not json") is None
