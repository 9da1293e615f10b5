"""Settings that can never match anything, or that anyone can guess, are wrong settings; spellings are normalised."""

import re
from pathlib import Path

import pytest

from aitp_cp.cli.findings import findings
from aitp_cp.settings import Settings, SettingsError, load
from tests.cli.support import run, said
from tests.support.rendered import ROOT

SEED = "960ddd56a1de518dd321c51ffc7fba9b74e3114534371101d626204b9ba32d12"
GOOD = {
    "CP_AID_SEED_HEX": SEED,
    "ENROLLMENT_SECRET": "an-enrollment-secret-of-32-chars!",
    "DATABASE_URL": "postgresql://cp@db/cp",
    "API_KEYS": "a-key-that-production-takes",
    "CORS_ORIGIN": "https://console.test",
}
VARIABLES = [name.upper() for name in Settings.model_fields]


def refused(environ: dict[str, str], **more: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load({**environ, **more}, command="serve")
    return str(caught.value)


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("variable", VARIABLES)
def test_quotes_around_a_value(variable: str, quote: str, tmp_path: Path) -> None:
    """Row 22: matching quotes are a wrong setting, for every variable and its `_FILE` alike."""
    value = GOOD.get(variable, "1")
    for environ in ({variable: f"{quote}{value}{quote}"}, {variable: "", f"{variable}_FILE": f"{quote}/x{quote}"}):
        message = refused(GOOD, **environ)
        assert re.search(rf"^  {variable}(_FILE)?: is in quotes", message, re.MULTILINE)
        assert value not in message or len(value) == 1
    file = tmp_path / "value"
    file.write_text(f"{quote}{value}{quote}\n")
    assert "in quotes" in refused(GOOD, **{variable: "", f"{variable}_FILE": str(file)})


@pytest.mark.parametrize("variable", ["API_KEYS", "CORS_ORIGIN", "WEBHOOK_URL_ALLOWLIST", "ALLOWED_HOSTS"])
def test_quotes_around_one_of_a_list(variable: str) -> None:
    """Row 22: one entry in quotes is as wrong."""
    assert f"  {variable}: holds an entry in quotes" in refused(GOOD, **{variable: 'one-of-them-is-bare, "k-canary"'})


def test_quotes_around_the_key_of_the_client() -> None:
    """Row 22: the client's own variables too."""
    done = run("audit", "list", AITP_CP_URL="http://127.0.0.1:1", AITP_CP_API_KEY='"key-canary-0123456789"')
    assert done.returncode == 2
    assert "quotes" in done.stderr
    assert "canary" not in said(done)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("API_KEYS", "x", "key 1 of 1 has fewer than 20 characters"),
        ("API_KEYS", "a-key-that-production-takes,nineteen-characters", "key 2 of 2 has fewer than 20 characters"),
        ("API_KEYS", "abcdefg" * 5, "fewer than 8 different characters"),
        ("API_KEYS", "change-me-to-a-long-random-value", "an example"),
        ("ENROLLMENT_SECRET", "abcdefg" * 5, "fewer than 8 different characters"),
        ("ENROLLMENT_SECRET", "your-secret-with-at-least-32-characters", "an example"),
        ("CP_AID_SEED_HEX", "00" * 32, "repeats itself"),
        ("CP_AID_SEED_HEX", "ab" * 32, "repeats itself"),
        ("CP_AID_SEED_HEX", "0123456789abcdef" * 4, "repeats itself"),
    ],
)
def test_a_secret_that_can_be_guessed(variable: str, value: str, reason: str) -> None:
    """Row A15: production does not start with it; development does, and migrations need no secret."""
    message = refused(GOOD, **{variable: value})
    assert re.search(rf"^  {variable}: .*{reason}", message, re.MULTILINE)
    assert "keygen" in message
    assert value not in message
    load({**GOOD, variable: value, "CP_ENV": "development"}, command="serve")
    load({**GOOD, variable: value}, command="tool")
    assert "repeats" not in message or refused(GOOD, **{variable: value, "API_KEYS_ALLOW_WEAK": "true"})


def test_weak_keys_pass_where_the_operator_says_so_and_check_fails() -> None:
    """Row A15: `API_KEYS_ALLOW_WEAK=true` starts with a warning, and `check` fails."""
    settings = load({**GOOD, "API_KEYS": "old-key", "API_KEYS_ALLOW_WEAK": "true"}, command="serve")
    (finding,) = findings(settings)
    assert (finding.level, finding.subject) == ("fail", "API_KEYS")
    assert "old-key" not in finding.sentence


def test_a_digest_of_a_key_stays_possible() -> None:
    """Row A15: `sha256:` and 64 hex digits is no weak key."""
    load({**GOOD, "API_KEYS": f"sha256:{SEED}"}, command="serve")


def test_no_value_of_the_documents_is_a_secret() -> None:
    """Row A15: whoever pastes an example gets no production with it."""
    assigned = re.compile(r"\b(CP_AID_SEED_HEX|ENROLLMENT_SECRET|API_KEYS)[=:] ?[\"']?([A-Za-z0-9][^\s\"'`]*)")
    pages = [ROOT / ".env.example", ROOT / "README.md", ROOT / "compose.yaml", *ROOT.glob("docs/**/*.md")]
    found = [match for page in pages for match in assigned.findall(page.read_text())]
    assert found
    for variable, value in found:
        assert f"  {variable}: " in refused(GOOD, **{variable: value}), value


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("HTTPS://Console.TEST:443/", "https://console.test"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("https://bücher.test", "https://xn--bcher-kva.test"),
        ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
        ("https://console.test.", "https://console.test"),
        ("*", "*"),
    ],
)
def test_an_origin_is_what_a_browser_sends(given: str, sent: str) -> None:
    """What browsers normalise is normalised."""
    assert load({**GOOD, "CORS_ORIGIN": given}, command="serve").cors_origin == (sent,)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CORS_ORIGIN", "https://console.test/app"),
        ("CORS_ORIGIN", "https://console.test?x=1"),
        ("CORS_ORIGIN", "https://user@console.test"),
        ("CORS_ORIGIN", "https://*.test"),
        ("CORS_ORIGIN", "console.test"),
        ("CORS_ORIGIN", "https://console..test"),
        ("CORS_ORIGIN", "https://console.test:99999"),
        ("CORS_ORIGIN", "null"),
        ("WEBHOOK_URL_ALLOWLIST", "https://hooks.test"),
        ("WEBHOOK_URL_ALLOWLIST", "hooks.test:8443"),
        ("WEBHOOK_URL_ALLOWLIST", "*.hooks.test"),
        ("WEBHOOK_URL_ALLOWLIST", "hooks.test/path"),
        ("WEBHOOK_URL_ALLOWLIST", "hooks test"),
        ("WEBHOOK_URL_ALLOWLIST", "."),
        ("WEBHOOK_URL_ALLOWLIST", "1.2.3"),
        ("WEBHOOK_ALLOWED_CIDRS", "10.1.2.3/8"),
        ("WEBHOOK_ALLOWED_CIDRS", "10.0.0.0/33"),
        ("CLIENT_IP_HEADER", "X Real IP"),
        ("CLIENT_IP_HEADER", "X-Real-IP:"),
        ("TRUSTED_PROXY_HOPS", "-1"),
        ("HOST", "http://0.0.0.0"),
        ("HOST", "0.0.0.0:4000"),
        ("HOST", "[::1]:4000"),
        ("HOST", "*"),
        ("ALLOWED_HOSTS", "https://cp.test"),
    ],
)
def test_what_can_never_match_is_refused(variable: str, value: str) -> None:
    """A setting that can never match anything is a wrong setting; its value is not repeated."""
    message = refused(GOOD, **{variable: value})
    assert re.search(rf"^  {variable}: \w", message, re.MULTILINE)
    assert value not in message.replace("`*`", "") or value in {".", "*", "-1"}


def test_hosts_of_webhooks_are_what_urls_hold() -> None:
    """A host is compared in lower case and ASCII."""
    given = "Hooks.TEST, .Corp.Test, bücher.test, 8.8.8.8, [2606:4700:0::1]"
    settings = load({**GOOD, "WEBHOOK_URL_ALLOWLIST": given}, command="serve")
    hosts = ("hooks.test", ".corp.test", "xn--bcher-kva.test", "8.8.8.8", "[2606:4700::1]")
    assert settings.webhook_url_allowlist == hosts
