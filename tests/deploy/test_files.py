"""What cannot be run here is at least read: every name in the deployment files is one that the code knows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are one more package for one reader

from aitp_cp.app import ENDPOINTS
from aitp_cp.settings import Settings
from tests.support import tables
from tests.support.rendered import DOCS, ROOT

DEPLOY = ROOT / "deploy"
YAML_FILES = sorted([ROOT / "compose.yaml", *DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")])
DASHBOARDS = sorted(DEPLOY.rglob("*.json"))
SETTINGS = {name.upper() for name in Settings.model_fields}
VARIABLES = SETTINGS | {f"{name}_FILE" for name in SETTINGS}
PATHS = {endpoint.path for endpoint in ENDPOINTS}
FINISH_SECS = 10

Manifest = dict[str, Any]


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def k8s(name: str) -> Manifest:
    manifest: Manifest = loaded(DEPLOY / "k8s" / f"{name}.yaml")
    return manifest


def pod(name: str) -> Manifest:
    spec: Manifest = k8s(name)["spec"]["template"]["spec"]
    return spec


def container(name: str) -> Manifest:
    (only,) = pod(name)["containers"]
    assert isinstance(only, dict)
    return only


def variables(one: Manifest) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in one["env"]}


def values_of(key: str, node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == key)
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from values_of(key, child)


@pytest.mark.parametrize("file", YAML_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_yaml_can_be_read(file: Path) -> None:
    assert isinstance(loaded(file), dict)


@pytest.mark.parametrize("file", [*YAML_FILES, *DASHBOARDS], ids=lambda file: str(file.relative_to(ROOT)))
def test_metrics_and_labels_exist(file: Path) -> None:
    spoken = set(re.findall(r"aitp_control_plane_\w+", file.read_text()))
    assert sorted(spoken - set(tables.metric_names())) == []


def test_dashboard_panels_are_whole() -> None:
    (dashboard,) = [json.loads(file.read_text()) for file in DASHBOARDS]
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        if panel["type"] != "row":
            assert all(target["expr"] for target in panel["targets"]), panel["title"]
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]


def test_every_metric_is_on_the_dashboard() -> None:
    text = "".join(file.read_text() for file in DASHBOARDS)
    assert [family.name for family in tables.metric_families() if family.name not in text] == []


def test_alerts_and_runbook_agree() -> None:
    rules = [rule for group in loaded(DEPLOY / "prometheus" / "alerts.yml")["groups"] for rule in group["rules"]]
    names = [rule["alert"] for rule in rules]
    explained = re.findall(r"^\| (Aitp\w+) \|", (DOCS / "operations.md").read_text(), re.MULTILINE)
    assert sorted(names) == sorted(explained)
    assert len(set(names)) == len(names)
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]
        assert balanced(rule["expr"]), rule["alert"]


def balanced(expression: str) -> bool:
    bare = re.sub(r'"[^"]*"', "", expression)
    return all(bare.count(a) == bare.count(b) for a, b in ("()", "[]", "{}"))


def test_scrapes_ask_the_metrics_route() -> None:
    (scrape,) = loaded(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
    assert scrape["metrics_path"] in PATHS
    assert f'up{{job="{scrape["job_name"]}"}}' in (DEPLOY / "prometheus" / "alerts.yml").read_text()
    assert k8s("deployment")["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"] in PATHS


def test_compose_names_only_settings() -> None:
    services = loaded(ROOT / "compose.yaml")["services"]
    assert set(services["migrate"]["environment"]) == {"DATABASE_URL"}
    assert services["migrate"]["environment"]["DATABASE_URL"] == services["cp"]["environment"]["DATABASE_URL"]
    for name in ("migrate", "cp"):
        assert set(services[name]["environment"]) <= SETTINGS
        assert services[name]["logging"]["options"]["max-size"]
        assert services[name]["read_only"] is True
    assert {"CP_AID_SEED_HEX", "DATABASE_URL", "API_KEYS", "ENROLLMENT_SECRET"} <= set(services["cp"]["environment"])
    assert services["cp"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_compose_mounts_what_exists() -> None:
    services = loaded(ROOT / "compose.yaml")["services"]
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", ())]
    assert [mount for mount in mounts if mount.startswith("./") and not (ROOT / mount).exists()] == []


@pytest.mark.parametrize("name", ["deployment", "migrate-job"])
def test_kubernetes_names_only_settings_and_keys_of_the_secret(name: str) -> None:
    keys = set(k8s("secret.example")["stringData"])
    given = variables(container(name))
    assert set(given) | set(k8s("configmap")["data"]) <= VARIABLES
    files = {value for variable, value in given.items() if variable.endswith("_FILE")}
    (mount,) = [one for one in container(name)["volumeMounts"] if one["name"] == "secrets"]
    assert {Path(file).name for file in files} <= keys
    assert {str(Path(file).parent) for file in files} == {mount["mountPath"]}


def test_a_migration_is_handed_no_secret_but_the_databases_address() -> None:
    assert {name for name in variables(container("migrate-job")) if name.endswith("_FILE")} == {"DATABASE_URL_FILE"}
    (mounted,) = [volume["secret"] for volume in pod("migrate-job")["volumes"] if "secret" in volume]
    assert [item["key"] for item in mounted["items"]] == ["database_url"]


@pytest.mark.parametrize("name", ["deployment", "migrate-job"])
def test_pods_are_confined(name: str) -> None:
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["automountServiceAccountToken"] is False
    security = container(name)["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_probes_ask_the_right_questions() -> None:
    one = container("deployment")
    assert one["livenessProbe"]["httpGet"]["path"] == "/api/livez"
    assert one["readinessProbe"]["httpGet"]["path"] == "/api/readyz"
    assert set(values_of("path", [one["livenessProbe"], one["readinessProbe"], one["startupProbe"]])) <= PATHS


def test_pods_get_the_time_that_draining_takes() -> None:
    one = container("deployment")
    drain_secs = int(variables(one)["DRAIN_WINDOW_MS"]) / 1000
    wait_secs = int(one["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod("deployment")["terminationGracePeriodSeconds"] >= wait_secs + drain_secs + FINISH_SECS
    probe = one["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < drain_secs


def test_selectors_meet_the_pods() -> None:
    labels = k8s("deployment")["spec"]["template"]["metadata"]["labels"]
    assert k8s("service")["spec"]["selector"] == labels
    assert k8s("pdb")["spec"]["selector"]["matchLabels"] == labels
    assert k8s("hpa")["spec"]["scaleTargetRef"]["name"] == k8s("deployment")["metadata"]["name"]
    listed = k8s("kustomization")["resources"]
    assert [name for name in listed if not (DEPLOY / "k8s" / name).exists()] == []


def test_the_unit_is_confined_and_drains() -> None:
    unit = (DEPLOY / "systemd" / "aitp-cp.service").read_text()
    pairs = [line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#")]
    options = {name: value for name, value in pairs if name != "Environment"}
    given = dict(value.split("=", 1) for name, value in pairs if name == "Environment")
    assert set(given) <= VARIABLES
    assert int(options["TimeoutStopSec"]) >= int(given["DRAIN_WINDOW_MS"]) / 1000 + FINISH_SECS
    for option in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "DynamicUser"):
        assert options[option] == "yes"
    loaded_credentials = {value.split(":", 1)[0] for name, value in pairs if name == "LoadCredential"}
    assert loaded_credentials == {value.removeprefix("%d/") for value in given.values() if value.startswith("%d/")}
