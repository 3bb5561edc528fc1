"""`run` with documents that ask somebody, or call other documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.program import call

ASKING = """\
name: asking
steps:
  - {id: ok, type: approval, message: "Send it?"}
outputs: {action: "{{ steps.ok.action }}"}
"""
CALLED = """\
name: called
steps:
  - {id: say, type: llm, provider: echo, model: echo, prompt: "hello {{ inputs.who }}"}
outputs: {said: "{{ steps.say.text }}"}
"""
CALLING = """\
name: calling
steps:
  - {id: c, type: workflow, workflow: called, inputs: {who: Ada}}
outputs: {said: "{{ steps.c.said }}"}
"""


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_an_approval_that_nobody_can_answer_ends_the_run_and_says_what_to_do(tmp_path: Path) -> None:
    ended = call("run", written(tmp_path, "asking.yaml", ASKING), cwd=tmp_path)
    assert ended.code == 1
    assert ended.out == ""
    assert ended.error_lines[0] == (
        "llm-orchestrator: warning: step 'ok' waits for an approval, and nobody is here; "
        "pass --approve or --reject"
    )
    assert "ok asks: Send it?" in ended.err
    assert "run it again with --approve or --reject" in ended.err
    assert ended.error_lines[-1] == "run cancelled: nobody was here to answer it"


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_approvals_are_answered_as_the_command_says(tmp_path: Path, action: str) -> None:
    ended = call("run", written(tmp_path, "asking.yaml", ASKING), f"--{action}", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == {"action": action}


def test_a_document_that_calls_one_that_was_not_given_fails(tmp_path: Path) -> None:
    ended = call("run", written(tmp_path, "calling.yaml", CALLING), cwd=tmp_path)
    assert ended.code == 1
    assert ended.error_lines[0] == (
        "llm-orchestrator: warning: step 'c' calls workflow 'called'; pass its document with --with FILE"
    )
    assert ended.error_lines[-1] == "run failed: c: not_found: workflow 'called' is not registered"


def test_documents_that_are_called_are_given_beside_it(tmp_path: Path) -> None:
    called = written(tmp_path, "called.yaml", CALLED)
    calling = written(tmp_path, "calling.yaml", CALLING)
    ended = call("run", calling, "--with", called, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "warning" not in ended.err
    assert json.loads(ended.out) == {"said": "hello Ada"}


def test_a_called_document_that_is_wrong_is_told_with_its_problems(tmp_path: Path) -> None:
    called = written(tmp_path, "called.yaml", CALLED.replace("type: llm", "type: lm"))
    calling = written(tmp_path, "calling.yaml", CALLING)
    ended = call("run", calling, "--with", called, cwd=tmp_path)
    assert ended.code == 2
    assert "unknown kind 'lm'" in ended.err
