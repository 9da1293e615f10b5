from pathlib import Path

import pytest

from aitp_cp.cli.findings import findings
from aitp_cp.settings import SettingsError, load

SEED = "960ddd56a1de518dd321c51ffc7fba9b74e3114534371101d626204b9ba32d12"
SECRET = "an-enrollment-secret-of-32-chars!"
KEY = "a-key-that-production-takes"
OTHER = "another-one-it-takes-too"
DSN = "postgresql://cp@db/cp"
GOOD = {"CP_AID_SEED_HEX": SEED, "ENROLLMENT_SECRET": SECRET, "DATABASE_URL": DSN}


def refused(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ, command="serve")
    return str(caught.value)


def test_every_wrong_variable_is_named_at_once_and_no_value_is_repeated() -> None:
    wrong = {
        "CP_ENV": "staging-canary",
        "PORT": "ninety-nine",
        "ENROLLMENT_SECRET": "short-canary",
        "CP_AID_SEED_HEX": "zz-canary",
        "DATABASE_URL": "mysql://canary",
        "CORS_ORIGIN": "canary",
        "WEBHOOK_ALLOWED_CIDRS": "10.0.0.0/8,canary",
        "RATE_LIMIT_ENABLED": "perhaps-canary",
        "LOG_LEVEL": "canary",
        "API_KEYS_FILE": "/no/such/canary",
        "CP_BASE_URL": "canary",
        "WEBHOOK_RETRY_ATTEMPTS": "0",
    }
    message = refused(wrong)
    for name in wrong:
        assert f"  {name}: " in message
    assert "canary" not in message
    assert "ninety" not in message


def test_what_is_missing_is_named_at_once() -> None:
    message = refused({})
    for name in ("CP_AID_SEED_HEX", "ENROLLMENT_SECRET", "DATABASE_URL"):
        assert f"  {name}: is required" in message


def test_a_file_holds_the_value(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}, {OTHER}\n")
    settings = load({**GOOD, "API_KEYS_FILE": str(keys)}, command="serve")
    assert [key.get_secret_value() for key in settings.api_keys] == [KEY, OTHER]
    assert "API_KEYS: is set together with API_KEYS_FILE" in refused(
        {**GOOD, "API_KEYS": "x", "API_KEYS_FILE": str(keys)}
    )


def test_defaults_depend_on_the_command() -> None:
    served = load(GOOD, command="serve")
    assert (served.production, served.host, served.drain_window_ms) == (True, "0.0.0.0", 5000)
    developed = load({"ENROLLMENT_SECRET": SECRET}, command="dev")
    assert (developed.production, developed.host, developed.drain_window_ms) == (False, "127.0.0.1", 0)
    assert developed.database_url is None


def test_node_env_means_production_whatever_else_is_said() -> None:
    environ = {**GOOD, "NODE_ENV": "production", "CP_ENV": "development"}
    assert load(environ, command="dev").production
    assert not load({**GOOD, "CP_ENV": "development", "NODE_ENV": "test"}, command="serve").production


def test_an_empty_value_counts_as_unset() -> None:
    settings = load({**GOOD, "PORT": "", "API_KEYS": " ", "CORS_ORIGIN": ""}, command="serve")
    assert (settings.port, settings.api_keys, settings.cors_origin) == (4000, (), None)


def test_lists_are_parsed() -> None:
    settings = load(
        {
            **GOOD,
            "CORS_ORIGIN": "https://a.example, https://b.example/",
            "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8,fd00::/8",
            "WEBHOOK_URL_ALLOWLIST": ".example, hooks.test",
        },
        command="serve",
    )
    assert settings.cors_origin == ("https://a.example", "https://b.example")
    assert [str(network) for network in settings.webhook_allowed_cidrs] == ["127.0.0.0/8", "fd00::/8"]
    assert settings.webhook_url_allowlist == (".example", "hooks.test")


def test_nothing_secret_is_printed() -> None:
    settings = load({**GOOD, "API_KEYS": "canary-key-of-25-characters"}, command="serve")
    for secret in (SEED, SECRET, DSN, "canary-key-of-25-characters"):
        assert secret not in repr(settings)
        assert secret not in str(settings.model_dump())


def test_findings_fail_in_production_and_warn_in_development() -> None:
    levels = {(finding.subject, finding.level) for finding in findings(load(GOOD, command="serve"))}
    assert levels == {("CORS_ORIGIN", "fail"), ("API_KEYS", "info")}
    developed = load({"ENROLLMENT_SECRET": SECRET}, command="dev")
    assert {finding.level for finding in findings(developed)} == {"warn"}
    complete = load({**GOOD, "API_KEYS": KEY, "CORS_ORIGIN": "https://a.example"}, command="serve")
    assert list(findings(complete)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"CP_BASE_URL": "http://canary\u2100.x"},
        {"CP_BASE_URL": "http://canary:99999"},
        {"CP_BASE_URL": "http://canary:pw@h"},
        {"ENROLLMENT_SECRET": "\udcff" * 40},
        {"API_KEYS": "canary\nother"},
        {"DATABASE_URL": "postgresql://u:canary@h:port/db"},
        {"DATABASE_URL": "postgresql://u:canary@h:99999/db"},
        {"DATABASE_URL": "postgresql://u:canary@h1:5432,h2:0/db"},
        {"DATABASE_URL": "postgresql://u:can[ary-canary@h/db"},
        {"DATABASE_URL": "postgresql://u:canary@h/db?sslmode=sometimes"},
        {"DATABASE_URL": "postgresql://u:canary@/db?host=/run/postgresql&port=x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "canary:4318"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://"},
        {"CLIENT_IP_HEADER": "canary header"},
        {"WEBHOOK_URL_ALLOWLIST": "hooks.example,https://canary.example"},
    ],
)
def test_what_could_not_be_used_is_refused_unrepeated(wrong: dict[str, str]) -> None:
    message = refused({**GOOD, **wrong})
    assert f"  {next(iter(wrong))}: must be" in message
    assert "canary" not in message


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:p%40ss@db.example:5432/cp?sslmode=require",
        "postgresql://u@[::1]:5432/cp",
        "postgresql://u@[::1]/cp",
        "postgresql://u@a:5432,b:5433/cp?target_session_attrs=primary",
        "postgresql://u@/cp?host=/run/postgresql&port=5432",
        "postgresql:///cp",
    ],
)
def test_every_address_of_a_database_is_taken(url: str) -> None:
    settings = load({**GOOD, "DATABASE_URL": url}, command="serve")
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == url


def test_one_mistake_is_named_once() -> None:
    message = refused({**GOOD, "DATABASE_URL": "", "DATABASE_URL_FILE": "/no/such/file"})
    assert message.count("DATABASE_URL") == 1


def test_production_is_recognised_in_any_case() -> None:
    assert load({**GOOD, "CP_ENV": "development", "NODE_ENV": "Production"}, command="serve").production
    assert "CP_AID_SEED_HEX: is required" in refused({"NODE_ENV": "PRODUCTION", "CP_ENV": "development"})


def test_a_migration_needs_only_the_database() -> None:
    assert load({"DATABASE_URL": DSN}, command="tool").database_url is not None
