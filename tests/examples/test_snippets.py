"""Every block of README and docs is executed or checked: what the documentation shows is what happens."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from app.bootstrap import build
from app.dsl.catalog import Catalog
from app.ports.errors import DefinitionInvalid
from app.settings import Settings
from app.settings_faults import unknown_variables
from app.steps.registry import STEP_KINDS
from tests.conftest import require_or_skip
from tests.examples.snippets import (
    DOCUMENTS,
    LANGUAGES,
    MARKS,
    ROOT,
    Snippet,
    all_snippets,
    shows,
    snippets_of,
)
from tests.service_process import ServiceProcess

README_URL = "http://127.0.0.1:8000"
"""What the documents write; the tests put the address of their own service in its place."""
SNIPPETS = all_snippets()


YAML = [
    pytest.param(snippet, id=snippet.place)
    for snippet in SNIPPETS
    if snippet.language == "yaml" and snippet.mark in {"", "invalid"}
]


# --- nothing slips through ------------------------------------------------------------------------------


def test_every_fence_has_a_known_language_and_a_known_mark() -> None:
    for snippet in SNIPPETS:
        assert snippet.language in LANGUAGES, f"{snippet.place}: name a language of {sorted(LANGUAGES)}"
        assert snippet.mark in MARKS, f"{snippet.place}: {snippet.mark!r} is none of {sorted(MARKS)}"


def test_every_fence_is_found() -> None:
    for document in DOCUMENTS:
        fences = [line for line in document.read_text().splitlines() if line.startswith("```")]
        assert len(fences) == 2 * len(list(snippets_of(document))), document.name


def test_what_is_not_run_says_why() -> None:
    left_out = [snippet for snippet in SNIPPETS if snippet.mark == "not run here"]
    assert all(snippet.note for snippet in left_out)
    commands = {line.split("#")[0].strip() for snippet in left_out for line in snippet.text.splitlines()}
    allowed = {"make demo", "make test", "make setup", 'export PATH="$PWD/.venv/bin:$PATH"'}
    assert {command for command in commands if not command.startswith("make bench")} <= allowed


# --- data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snippet", YAML)
def test_yaml_is_a_document_a_list_of_steps_or_settings(
    snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load(snippet.text)
    if isinstance(content, dict) and "steps" not in content:
        file = tmp_path / "settings.yaml"
        file.write_text(snippet.text)
        monkeypatch.setenv("ORCHESTRATOR_CONFIG", str(file))
        build(Settings(data_dir=tmp_path))
        return
    source = snippet.text if isinstance(content, dict) else json.dumps({"name": "shown", "steps": content})
    if snippet.mark == "invalid":
        with pytest.raises(DefinitionInvalid) as refused:
            Catalog(STEP_KINDS).compile(source)
        assert any(snippet.note in problem.detail for problem in refused.value.problems)
    else:
        Catalog(STEP_KINDS).compile(source)


@pytest.mark.parametrize(
    "snippet", [pytest.param(it, id=it.place) for it in SNIPPETS if it.mark == "environment"]
)
def test_variables_are_settings(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = dict(word.split("=", 1) for word in shlex.split(snippet.text))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert unknown_variables(variables) == []
    build(Settings(data_dir=Path("unused")))


def test_json_and_python_can_be_read() -> None:
    for snippet in SNIPPETS:
        if snippet.language == "json" and not snippet.mark:
            json.loads(snippet.text)
        elif snippet.language == "python" and not snippet.mark:
            compile(snippet.text, snippet.place, "exec")


# --- shell --------------------------------------------------------------------------------------------


class Shell:
    """A bash in which the blocks of one document run one after the other, keeping their variables."""

    def __init__(self, folder: Path, service: ServiceProcess) -> None:
        binaries = folder / "bin"
        binaries.mkdir()
        program = binaries / "llm-orchestrator"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m app.cli "$@"\n')
        program.chmod(0o755)
        (folder / "examples").symlink_to(ROOT / "examples")
        self._folder = folder
        self._state = folder / ".state"
        self._state.write_text("")
        self._url = service.url
        self._environment = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "ORCHESTRATOR_DATA_DIR": str(service.data_dir),
        }

    def run(self, snippet: Snippet) -> str:
        """What a block prints; it must succeed."""
        block = snippet.text.replace(README_URL, self._url)
        script = (
            f"set -eu -o pipefail\n. {self._state}\n{block}\ndeclare -p RUN > {self._state} 2>&- || true\n"
        )
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{snippet.place} ended with {done.returncode}:\n{done.stderr}"
        return done.stdout


def _service_environment() -> Mapping[str, str]:
    """The variables of the README's own command that starts the service."""
    (command,) = [snippet.text for snippet in SNIPPETS if snippet.mark == "service"]
    *assignments, program, argument = shlex.split(command)
    assert (program, argument) == ("llm-orchestrator", "serve")
    return dict(assignment.split("=", 1) for assignment in assignments)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    process = ServiceProcess(tmp_path_factory.mktemp("snippets") / "data", environment=_service_environment())
    process.start()
    try:
        process.wait_ready()
        yield process
    finally:
        process.kill()


WITH_SHELL = [
    document
    for document in DOCUMENTS
    if any(s.language == "sh" and not s.mark for s in snippets_of(document))
]


@pytest.mark.parametrize("document", WITH_SHELL, ids=lambda document: document.name)
def test_shell_blocks_run_and_print_what_is_shown(
    document: Path, service: ServiceProcess, tmp_path: Path
) -> None:
    for tool in ("bash", "curl"):
        if shutil.which(tool) is None:
            require_or_skip(f"{tool} is not installed", "install it to run the commands of the documents")
    shell = Shell(tmp_path, service)
    printed = ""
    for snippet in snippets_of(document):
        if snippet.mark == "output":
            assert shows(printed, snippet.text), f"{snippet.place} shows something else than:\n{printed}"
            printed = ""
        elif snippet.language == "sh" and not snippet.mark:
            printed += shell.run(snippet)


def test_what_is_shown_must_be_printed_in_that_order() -> None:
    assert not shows('{"a": 1}', '{"a": 2}')
    assert not shows("one\ntwo\n", "two … one")
    assert shows('{"id":"4711","status":"completed","x":[]}', '{"id": "…", "status": "completed", …}')
