"""What each command does when it is used as meant."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from app.settings_table import settings_rows
from tests.cli.program import SECONDS, call, command, environment
from tests.cli.test_refusals import HELLO, SEARCHING
from tests.service_process import ROOT, ServiceProcess

FAILING = """\
name: failing
steps:
  - {id: ask, type: llm, provider: echo, model: "fail:authentication", prompt: hi}
"""
COMMANDS = ["serve", "run", "validate", "test", "demo", "settings", "openapi", "schema"]
COMMANDS += ["doctor", "backup", "restore", "migrate"]


def document(folder: Path, text: str) -> Path:
    file = folder / "document.yaml"
    file.write_text(text)
    return file


# --- run ----------------------------------------------------------------------------------------------


def test_a_run_that_fails_says_which_step_and_why(tmp_path: Path) -> None:
    ended = call("run", document(tmp_path, FAILING), cwd=tmp_path)
    assert ended.code == 1
    assert ended.out == ""
    assert ended.error_lines[-1].startswith("run failed: ask: authentication: ")
    assert "Traceback" not in ended.err


def test_a_run_that_is_interrupted_ends_with_130(tmp_path: Path) -> None:
    file = document(tmp_path, (HELLO + SEARCHING).replace("provider: echo", "provider: slow"))
    # Shells have what they start in the background ignore it, and that is handed down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command("run", file, "-i", "who=Ada"),
        cwd=tmp_path,
        env=environment(
            {
                "ORCHESTRATOR_PROVIDERS__SLOW__VENDOR": "echo",
                "ORCHESTRATOR_PROVIDERS__SLOW__LATENCY_MS": "60000",
            }
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_vectors_file(tmp_path, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    finally:
        with process:  # its pipes are closed, however it ends
            process.kill()
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err


def wait_for_vectors_file(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the run's service is open: it makes this file last."""
    file = folder / ".orchestrator" / "vectors.db"
    while not file.exists():
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)


def test_a_run_prints_its_outputs_as_json_and_its_table_beside_them(tmp_path: Path) -> None:
    ended = call("run", document(tmp_path, HELLO), "--input", "who=Ada", cwd=tmp_path)
    assert ended.code == 0
    assert json.loads(ended.out) == {"greet": "Hello, Ada!"}
    assert "hello 1: completed" in ended.err
    assert "greet" in ended.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-i", "value=text"], "text"),
        (["-i", "value=[1, 2]"], [1, 2]),
        (["-i", "value=true"], True),
        (["-i", 'value="5"'], "5"),
        (["-i", "value=a=b"], "a=b"),
        (["-i", "value=@value.json"], {"from": "file"}),
        (["--inputs", '{"value": {"a": null}}'], {"a": None}),
        (["--inputs", '{"value": 1}', "-i", "value=2"], 2),
    ],
)
def test_inputs_are_json_where_they_can_be(arguments: list[str], expected: object, tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text('{"from": "file"}')
    file = document(tmp_path, "name: x\nsteps: [{id: a, type: transform, expression: inputs.value}]\n")
    ended = call("run", file, *arguments, cwd=tmp_path)
    assert ended.code == 0
    assert json.loads(ended.out) == {"a": expected}


def test_a_run_leaves_no_trace_where_it_was_started(tmp_path: Path) -> None:
    file = document(tmp_path, HELLO)
    ended = call("run", file, "-i", "who=Ada", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert ended.code == 0
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("database", ["embedded", "'{{ inputs.who }}'"])
def test_a_run_that_may_use_the_embedded_vector_database_keeps_that_and_nothing_else(
    tmp_path: Path, database: str
) -> None:
    text = HELLO + SEARCHING.replace("embedded", database)
    ended = call("run", document(tmp_path, text), "-i", "who=embedded", "--data-dir", "data", cwd=tmp_path)
    assert "s: not_found: " in ended.error_lines[-1]
    assert {file.name.partition(".db")[0] for file in (tmp_path / "data").iterdir()} == {"vectors"}


@pytest.mark.parametrize(
    ("name", "said"), [("run", '"greet": "Hello, Ada!"'), ("validate", "<stdin>: valid (hello 1")]
)
def test_a_document_can_come_from_standard_input(name: str, said: str, tmp_path: Path) -> None:
    arguments = ["-i", "who=Ada"] if name == "run" else []
    ended = call(name, "-", *arguments, cwd=tmp_path, given=HELLO)
    assert ended.code == 0
    assert said in ended.out


# --- the others ---------------------------------------------------------------------------------------


def test_every_command_is_listed_and_has_help(tmp_path: Path) -> None:
    listed = call("--help", cwd=tmp_path)
    assert listed.code == 0
    for name in COMMANDS:
        assert f" {name} " in listed.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str, tmp_path: Path) -> None:
    ended = call(name, "--help", cwd=tmp_path)
    assert ended.code == 0
    assert name in ended.out


def test_every_shipped_example_is_valid(tmp_path: Path) -> None:
    # Those of single vendors name instances that are not configured here: their own test validates them.
    elsewhere = {"fixtures", "providers", "databases"}
    files = [
        file
        for file in sorted((ROOT / "examples").rglob("*"))
        if file.suffix in {".yaml", ".json"} and file.parent.name not in elsewhere
    ]
    ended = call("validate", *files, cwd=tmp_path)
    assert ended.code == 0
    assert ended.err == ""
    assert len(ended.out.splitlines()) == len(files)


def test_validate_warns_of_names_that_the_settings_do_not_have(tmp_path: Path) -> None:
    file = document(tmp_path, HELLO.replace("provider: echo", "provider: ecko"))
    warned = call("validate", file, cwd=tmp_path)
    assert (warned.code, warned.out) == (0, f"{file}: valid (hello 1, 1 steps)\n")
    assert warned.error_lines == [
        f"{file}:4:28: warning: /steps/0/provider: provider 'ecko' is not configured (did you mean 'echo'?)"
    ]
    configured = call("validate", file, cwd=tmp_path, ORCHESTRATOR_PROVIDERS__ECKO__VENDOR="echo")
    assert (configured.code, configured.err) == (0, "")


def test_settings_lists_every_setting_with_a_meaning(tmp_path: Path) -> None:
    ended = call("settings", cwd=tmp_path)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines] == [name for name, _, _ in settings_rows()]
    assert all(meaning for _, _, meaning in settings_rows())


def test_openapi_prints_the_document_that_the_service_serves(tmp_path: Path) -> None:
    ended = call("openapi", cwd=tmp_path)
    assert ended.code == 0
    printed = json.loads(ended.out)
    assert printed["openapi"].startswith("3.1")
    assert "/v1/runs" in printed["paths"]


def test_serve_ends_with_0_on_sigterm(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "data", environment={"ORCHESTRATOR_SERVER__DRAIN_DELAY_SECONDS": "0"})
    service.start()
    try:
        service.wait_ready()
        service.terminate()
        assert service.wait(30) == 0
    finally:
        service.kill()
    assert "Traceback" not in service.log()


def test_serve_takes_settings_from_the_command_line_before_the_environment_before_the_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "settings.yaml").write_text(
        "server: {port: 1}\nlog: {level: error}\nruns: {max_pending: 7}\n"
    )
    service = ServiceProcess(
        tmp_path / "data",
        environment={
            "ORCHESTRATOR_CONFIG": str(tmp_path / "settings.yaml"),
            "ORCHESTRATOR_SERVER__PORT": "2",
            "ORCHESTRATOR_LOG__LEVEL": "info",
        },
    )
    service.start()
    try:
        service.wait_ready()
    finally:
        service.kill()
    assert f'"url":"{service.url}"' in service.log()
