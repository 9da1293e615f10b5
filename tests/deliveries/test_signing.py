import base64
import hashlib
import hmac
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from aitp_cp.deliveries.signing import signature_headers

ID = UUID("0b7c9a5e-0000-4000-8000-000000000001")
BODY = '{"a":"\u00fc"}'.encode()


def test_the_plain_signature_is_an_hmac_of_the_body() -> None:
    headers = signature_headers("s3cret", ID, BODY, datetime.now(UTC))
    expected = hmac.new(b"s3cret", BODY, hashlib.sha256).hexdigest()
    assert headers["X-AITP-Signature"] == f"sha256={expected}"


@given(st.text(min_size=1, max_size=255).filter(lambda text: text.isprintable()))
def test_the_standard_signature_satisfies_the_standard_library_of_receivers(secret: str) -> None:
    headers = signature_headers(secret, ID, BODY, datetime.now(UTC))
    assert Webhook(secret.encode()).verify(BODY, headers) == {"a": "\u00fc"}
    as_documented = "whsec_" + base64.b64encode(secret.encode()).decode()
    assert Webhook(as_documented).verify(BODY, headers) == {"a": "\u00fc"}
    assert headers["webhook-id"] == str(ID)


@pytest.mark.parametrize("changed", ["secret", "body", "id", "timestamp"])
def test_nothing_signed_can_be_changed(changed: str) -> None:
    headers = signature_headers("s3cret", ID, BODY, datetime.now(UTC))
    body, secret = BODY, b"s3cret"
    if changed == "secret":
        secret = b"other"
    elif changed == "body":
        body += b" "
    elif changed == "id":
        headers["webhook-id"] = str(UUID(int=1))
    else:
        headers["webhook-timestamp"] = str(int(headers["webhook-timestamp"]) + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_an_old_signature_cannot_be_replayed_later() -> None:
    headers = signature_headers("s3cret", ID, BODY, datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(b"s3cret").verify(BODY, headers)
