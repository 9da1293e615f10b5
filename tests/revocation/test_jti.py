"""Every spelling of a token id, and nothing else."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.errors import JtiInvalid
from aitp_cp.revocation.jti import read_jti


@given(st.uuids())
def test_every_spelling_of_a_uuid_is_the_same_token(jti: UUID) -> None:
    for text in (str(jti), jti.hex, jti.urn, f"{{{jti}}}"):
        assert read_jti(text) == jti
        assert read_jti(text.upper()) == jti


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not-a-uuid",
        "12345678-1234-1234-1234-1234567890",
        "12345678-1234-1234-1234-1234567890123",
        "1234567812341234123412345678-90-12",
        " 12345678-1234-1234-1234-123456789012",
        "12345678-1234-1234-1234-123456789012\n",
        "{12345678-1234-1234-1234-123456789012",
        "urn:uuid:{12345678-1234-1234-1234-123456789012}",
        "1234567\u0661-1234-1234-1234-123456789012",
        None,
        7,
        ["12345678-1234-1234-1234-123456789012"],
    ],
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(JtiInvalid):
        read_jti(text)
