"""What reports in their many dialects say about a handshake."""

from typing import Any

import pytest

from aitp_cp.sessions.model import SessionChange, Status
from aitp_cp.sessions.projection import changes_from
from tests.ingest.support import at, normalised

CLAIMS = {"jti": "6c0b3a2e-6ad5-4a51-9f3c-06a1f9d9d3b4", "iss": "issuer", "sub": "holder"}


def changes(**event: Any) -> list[SessionChange]:
    found = changes_from(normalised({"ts": "2026-03-04T12:00:00Z", "session_id": "s-1", **event}))
    return [report.state for reports in found.values() for report in reports]


def change(type: str = "handshake.complete", **event: Any) -> SessionChange:
    [found] = changes(type=type, **event)
    return found


def test_each_type_has_its_status_and_time() -> None:
    started = change("handshake.started")
    assert (started.status, started.started_at, started.completed_at) == (Status.STARTED, at("12:00"), None)
    for type in ("handshake.complete", "handshake.completed"):
        complete = change(type)
        assert (complete.status, complete.started_at, complete.completed_at) == (Status.COMPLETE, None, at("12:00"))
    failed = change("handshake.failed", payload={"error": "refused"})
    assert (failed.status, failed.error, failed.completed_at) == (Status.FAILED, "refused", None)


def test_other_types_and_events_without_a_session_say_nothing() -> None:
    assert changes(type="tct.issued") == []
    assert changes(type="handshake.complete", session_id=None) == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("refused", "refused"),
        ({"message": "refused", "code": 7}, "refused"),
        ({"code": 7}, '{"code":7}'),
        (["a"], '["a"]'),
        ("", None),
        (None, None),
    ],
)
def test_an_error_is_told_as_text(error: Any, text: str | None) -> None:
    assert change("handshake.failed", payload={"error": error}).error == text


def test_grants_are_the_events_own_before_the_payloads() -> None:
    assert change(grants=["b", "a"], payload={"grants": ["c"]}).grants == ["a", "b"]
    assert change(payload={"grants": ["c", 5]}).grants == ["c"]
    assert change(payload={"tct": CLAIMS | {"grants": ["d"]}}).grants == []


@pytest.mark.parametrize("boundary", ["b" * 33, "", 5, {}, None])
def test_a_boundary_that_does_not_fit_is_left_out(boundary: Any) -> None:
    assert change(payload={"boundary": boundary}).boundary is None
    assert change(payload={"boundary": "b" * 32}).boundary == "b" * 32


@pytest.mark.parametrize(
    ("role", "sides"),
    [("initiator", ("holder", "issuer")), ("responder", ("issuer", "holder")), (None, ("holder", "issuer"))],
)
@pytest.mark.parametrize("reported", [{"tct": CLAIMS}, {"tct": {"token": "t", "claims": CLAIMS}}, {"tcts": [CLAIMS]}])
def test_missing_sides_are_taken_from_the_token(role: str, sides: tuple[str, str], reported: dict[str, Any]) -> None:
    found = change(payload={"role": role, **reported})
    assert (found.aid_a, found.aid_b) == sides


def test_the_events_own_sides_come_first() -> None:
    found = change(aid_a="first", aid_b="second", payload={"tct": CLAIMS})
    assert (found.aid_a, found.aid_b) == ("first", "second")
    one = change(aid_a="issuer", payload={"tct": CLAIMS})
    assert (one.aid_a, one.aid_b) == ("issuer", "holder")
    other = change(aid_b="holder", payload={"tct": CLAIMS})
    assert (other.aid_a, other.aid_b) == ("issuer", "holder")


def test_a_payload_that_is_no_object_still_makes_a_session() -> None:
    payloads: list[Any] = [[], "text", 5, True]
    for payload in payloads:
        assert change(payload=payload).status is Status.COMPLETE
