"""What cannot work is refused before anything starts, with what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings_temporal import TemporalSettings
from tests.service_process import ROOT

WITHOUT_SDK = """
import sys
sys.modules["temporalio"] = None
from app.cli import main
sys.argv = ["llm-orchestrator", "serve", "--data-dir", sys.argv[1]]
main()
"""


def run_program(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRATOR_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_the_sdk_the_extra_is_named(tmp_path: Path) -> None:
    done = run_program("-c", WITHOUT_SDK, str(tmp_path), ORCHESTRATOR_ENGINE="temporal")
    assert done.returncode == 2
    assert "pip install '.[temporal]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_of_the_embedded_engine_is_refused(tmp_path: Path) -> None:
    done = run_program("-m", "app.cli", "worker", "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert "ORCHESTRATOR_ENGINE=temporal" in done.stderr


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    done = run_program(
        "-m",
        "app.cli",
        "worker",
        "--data-dir",
        str(tmp_path),
        ORCHESTRATOR_ENGINE="temporal",
        ORCHESTRATOR_TEMPORAL__TLS_CERTIFICATE=str(tmp_path / "missing.pem"),
        ORCHESTRATOR_TEMPORAL__TLS_KEY=str(tmp_path / "missing.key"),
    )
    assert done.returncode == 3
    assert "temporal.tls_certificate 'missing.pem' cannot be read" in done.stderr


def test_half_of_a_pair_is_refused() -> None:
    with pytest.raises(ValidationError, match="tls_key"):
        TemporalSettings(tls_certificate=Path("client.pem"))
    with pytest.raises(ValidationError, match="build_id"):
        TemporalSettings(deployment="runs")


@pytest.mark.parametrize(
    "given",
    [{"task_queue": ""}, {"tenant_queues": {"acme": ""}}, {"label_queues": {"tier": "gpu"}}],
)
def test_queues_that_no_run_can_be_on_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TemporalSettings.model_validate(given)


def test_a_task_queue_without_a_name_is_refused_on_the_command_line(tmp_path: Path) -> None:
    done = run_program(
        *("-m", "app.cli", "worker", "--task-queue", "", "--data-dir", str(tmp_path)),
        ORCHESTRATOR_ENGINE="temporal",
    )
    assert done.returncode == 2
    assert "temporal.task_queue" in done.stderr


def test_credentials_imply_tls() -> None:
    assert not TemporalSettings().uses_tls
    assert TemporalSettings.model_validate({"api_key": "k"}).uses_tls
    assert TemporalSettings(tls_ca=Path("ca.pem")).uses_tls
