"""What is shipped for containers: services reached as they are meant to be, and settings that work."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from app.api.callers import Callers
from app.bootstrap import build, build_worker
from app.invocation import read_settings
from app.settings import Settings
from tests.architecture.tree import ROOT
from tests.conftest import require_or_skip

ANYWHERE = ("0.0.0.0", 8000)  # noqa: S104  how a container sees a published port
SERVING = ("orchestrator", "orchestrator-postgresql", "api")
OURS = (*SERVING, "worker")
OVERLAYS = ("kubernetes", "kubernetes-postgresql", "kubernetes-temporal")
DATABASE = "postgresql://user:password@host/database"
DEFAULTS = re.compile(r"\$\{\w+:-([^}]*)\}")


def composed(service: str) -> dict[str, Any]:
    """One service of the compose file."""
    services: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
        "services"
    ]
    return services[service]


def settings_of(service: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What a composed service reads where the shell sets nothing."""
    monkeypatch.delenv("ORCHESTRATOR_REQUIRE_ALL", raising=False)  # the tests' own, and no setting
    for name, value in composed(service)["environment"].items():
        monkeypatch.setenv(name, DEFAULTS.sub(r"\1", value))
    command = composed(service)["command"]
    host = command[command.index("--host") + 1] if "--host" in command else "127.0.0.1"
    return read_settings({"server": {"host": host}})


def drained_within(settings: Settings) -> float:
    """Seconds that a stop may take at most."""
    return settings.server.drain_delay_seconds + settings.server.drain_seconds + 5


@pytest.fixture(params=SERVING)
def callers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callers:
    """Who may call a composed service."""
    server = settings_of(request.param, monkeypatch).server
    return Callers(host=server.host, allowed_hosts=server.allowed_hosts, open=server.allow_open)


# --- compose ------------------------------------------------------------------------------------------


def test_the_composed_services_are_published_on_loopback_only_and_apart() -> None:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    published = [port for service in document["services"].values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len(set(published)) == len(published) == len(SERVING)


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8000", "orchestrator", ""])
def test_a_page_that_rebinds_its_name_does_not_reach_a_composed_service(callers: Callers, name: str) -> None:
    refusal = callers.refusal(ANYWHERE, name.encode())
    assert refusal is not None
    assert refusal.status == 421


@pytest.mark.parametrize("name", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machine_and_the_health_check_reach_a_composed_service(callers: Callers, name: str) -> None:
    assert callers.refusal(ANYWHERE, name.encode()) is None


def test_the_default_needs_no_other_server() -> None:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert [name for name, it in document["services"].items() if "profiles" not in it] == [
        "migrate",
        "orchestrator",
    ]
    assert "depends_on" not in composed("migrate")
    assert composed("orchestrator")["depends_on"].keys() == {"migrate"}


@pytest.mark.parametrize("service", OURS)
def test_a_composed_services_settings_work_together(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(service, monkeypatch)
    if settings.engine == "temporal":
        pytest.importorskip("temporalio")
    if settings.store.url is not None:
        pytest.importorskip("asyncpg")
    (build_worker if service == "worker" else build)(settings)
    assert composed(service)["stop_grace_period"] == "40s"
    assert drained_within(settings) < 40


@pytest.mark.parametrize("service", OURS)
def test_a_composed_service_writes_to_its_data_only_and_starts_after_its_servers(service: str) -> None:
    ours = composed(service)
    assert ours["read_only"] is True
    assert ours["cap_drop"] == ["ALL"]
    servers = {name for name in ours["depends_on"] if not name.startswith("migrate")}
    profiles = set(ours.get("profiles", []))
    assert all(profiles <= set(composed(server)["profiles"]) for server in servers)
    named = re.findall(r"@([\w-]+)/", str(ours["environment"])) + re.findall(
        r"'([\w-]+):7233'", str(ours["environment"])
    )
    assert set(named) == servers


def test_the_image_can_hold_every_extra_that_compose_asks_for() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "ARG EXTRAS=" in dockerfile
    for service in ("orchestrator-postgresql", "api", "worker"):
        for extra in composed(service)["build"]["args"]["EXTRAS"].split(","):
            assert (ROOT / "requirements" / f"{extra}.lock").exists()


# --- Kubernetes ---------------------------------------------------------------------------------------


def manifests(overlay: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would apply."""
    if shutil.which("kubectl") is None:
        require_or_skip("kubectl is not installed", "install it to render the manifests")
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "deploy" / overlay)], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def deployments(overlay: str) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, str]]]:
    """Each deployment's spec, its pod's, and what its container reads from the environment."""
    for manifest in manifests(overlay):
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            yield manifest["spec"], pod, {it["name"]: it.get("value", DATABASE) for it in container["env"]}


def test_every_manifest_is_named_by_its_kustomization() -> None:
    for folder in sorted((ROOT / "deploy").iterdir()):
        told = yaml.safe_load((folder / "kustomization.yaml").read_text())
        named = {*told["resources"], *(patch["path"] for patch in told.get("patches", []))}
        files = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
        assert {name for name in named if not name.startswith("..")} == files
        for name in files:
            assert {"apiVersion", "kind", "metadata"} <= yaml.safe_load((folder / name).read_text()).keys()
    assert {path.name for path in (ROOT / "deploy").iterdir()} == set(OVERLAYS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pods_settings_work_and_its_drain_ends_before_it_is_killed(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, pod, environment in deployments(overlay):
        with monkeypatch.context() as patch:
            patch.delenv("ORCHESTRATOR_REQUIRE_ALL", raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            settings = read_settings({})
        assert drained_within(settings) < pod["terminationGracePeriodSeconds"]
        assert (settings.store.url is not None) == (overlay != "kubernetes")
        assert (settings.engine == "temporal") == (overlay == "kubernetes-temporal")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_no_rights_and_every_mount_has_its_volume(overlay: str) -> None:
    for _, pod, _ in deployments(overlay):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["image"] == "llm-orchestrator:0.1.0"
        volumes = {it["name"]: len(it) for it in pod["volumes"]}
        assert {it["name"] for it in container["volumeMounts"]} == volumes.keys()
        assert set(volumes.values()) == {2}, "a volume has one source"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_policies_and_budgets_select_pods_that_there_are(overlay: str) -> None:
    pods = {tuple(spec["selector"]["matchLabels"].items()) for spec, _, _ in deployments(overlay)}
    for manifest in manifests(overlay):
        spec: Mapping[str, Any] = manifest.get("spec", {})
        chosen = {
            "Service": lambda it: it["selector"],
            "NetworkPolicy": lambda it: it["podSelector"]["matchLabels"],
            "PodDisruptionBudget": lambda it: it["selector"]["matchLabels"],
        }.get(manifest["kind"])
        if chosen is not None:
            assert tuple(chosen(spec).items()) in pods


def test_one_process_has_its_volume_and_several_have_none() -> None:
    kinds = {overlay: [it["kind"] for it in manifests(overlay)] for overlay in OVERLAYS}
    assert "PersistentVolumeClaim" in kinds["kubernetes"]
    assert "PersistentVolumeClaim" not in kinds["kubernetes-postgresql"] + kinds["kubernetes-temporal"]
    assert kinds["kubernetes-postgresql"].count("PodDisruptionBudget") == 1
    assert kinds["kubernetes-temporal"].count("PodDisruptionBudget") == 2
    assert [spec["replicas"] for spec, _, _ in deployments("kubernetes")] == [1]
    assert [spec["replicas"] for spec, _, _ in deployments("kubernetes-postgresql")] == [2]


def test_a_worker_is_reached_for_probes_and_metrics_only() -> None:
    workers = [
        (pod["containers"][0], environment)
        for _, pod, environment in deployments("kubernetes-temporal")
        if pod["containers"][0]["args"][0] == "worker"
    ]
    ((container, environment),) = workers
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert environment["ORCHESTRATOR_TEMPORAL__METRICS_ADDRESS"] == f"0.0.0.0:{ports['sdk-metrics']}"
    arguments = container["args"]
    assert arguments[arguments.index("--health-host") + 1] == "0.0.0.0"  # noqa: S104  as above
    assert arguments[arguments.index("--health-port") + 1] == str(ports["http"])
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {it["port"] for it in probes.values()} == {"http"}
    assert probes["liveness"]["path"] == "/healthz"
    assert probes["readiness"]["path"] == "/readyz"
    (policy,) = [
        it["spec"]
        for it in manifests("kubernetes-temporal")
        if it["kind"] == "NetworkPolicy" and it["metadata"]["name"].endswith("worker")
    ]
    allowed = [it["port"] for rule in policy["ingress"] for it in rule["ports"]]
    assert sorted(allowed) == sorted(ports.values())


def test_the_composed_worker_answers_the_images_health_check() -> None:
    command = composed("worker")["command"]
    port = command[command.index("--health-port") + 1]
    assert f"http://127.0.0.1:{port}/healthz" in (ROOT / "Dockerfile").read_text()
    assert "healthcheck" not in composed("worker")


@pytest.mark.parametrize("service", OURS)
def test_a_service_starts_after_its_store_was_migrated(service: str) -> None:
    started = composed(service)
    (migration,) = [
        name
        for name, it in started["depends_on"].items()
        if it["condition"] == "service_completed_successfully"
    ]
    before = composed(migration)
    assert before["command"][0] == "migrate"
    assert before["restart"] == "no"
    url = "ORCHESTRATOR_STORE__URL"
    assert before["environment"].get(url) == started["environment"].get(url)
    # On a file it has to be the same volume.
    assert url in before["environment"] or before["volumes"] == started["volumes"]
    assert set(started.get("profiles", [])) <= set(before.get("profiles", started.get("profiles", [])))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_migrates_the_store_that_it_serves_before_it_does(overlay: str) -> None:
    for _, pod, environment in deployments(overlay):
        (before,) = pod["initContainers"]
        assert before["args"] == ["migrate", "--data-dir", "/data"]
        assert before["image"] == "llm-orchestrator:0.1.0"
        assert before["securityContext"]["readOnlyRootFilesystem"] is True
        url = "ORCHESTRATOR_STORE__URL"
        assert (url in {it["name"] for it in before.get("env", [])}) == (url in environment)
