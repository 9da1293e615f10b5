"""Which URLs an administrator may name."""

import pytest

from aitp_cp.truststore.urls import complaint, discovery_url


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.example",
        "HTTPS://issuer.example/",
        "http://localhost:8080/realms/one?x=y#z",
        "https://[2001:db8::1]:8443/%20",
        "https://192.0.2.1",
    ],
)
def test_absolute_web_urls_are_taken(url: str) -> None:
    assert complaint(url) is None


@pytest.mark.parametrize(
    "url", ["", "https:issuer", "//issuer.example", "https://[::1", "https://:8080", "wss://a.example", "https://a@b"]
)
def test_anything_else_is_not(url: str) -> None:
    assert complaint(url) is not None


@pytest.mark.parametrize("issuer", ["https://a.example/x", "https://a.example/x/"])
def test_discovery_is_below_the_issuer(issuer: str) -> None:
    assert discovery_url(issuer) == "https://a.example/x/.well-known/openid-configuration"
