"""`llm-orchestrator test`: what a CI job sees of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import Ended, call
from tests.service_process import ROOT

DOCUMENT = ROOT / "examples" / "approval.yaml"
RECORDING = ROOT / "examples" / "fixtures" / "approval_approved.json"


def changed(folder: Path, old: str, new: str) -> Path:
    text = DOCUMENT.read_text()
    assert old in text
    file = folder / "changed.yaml"
    file.write_text(text.replace(old, new))
    return file


def replay(folder: Path, document: Path, *arguments: str | Path) -> Ended:
    return call("test", document, *arguments, cwd=folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("{", "no recording"),
        ('{"recording": 2}', "no recording"),
        ('{"name": "a workflow"}', "no recording"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "recording.json"
    if content is not None:
        file.write_text(content)
    ended = replay(tmp_path, DOCUMENT, "--fixture", file)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.error_lines[-1]
    assert "Traceback" not in ended.err


def test_a_document_with_problems_is_refused(tmp_path: Path) -> None:
    ended = replay(tmp_path, changed(tmp_path, "type: llm", "type: lmm"), "--fixture", RECORDING)
    assert ended.code == 2
    assert "/steps/0/type" in ended.err


def test_a_recording_must_be_named(tmp_path: Path) -> None:
    assert replay(tmp_path, DOCUMENT).code == 2


def test_another_prompt_fails_with_a_diff_a_person_can_read(tmp_path: Path) -> None:
    document = changed(tmp_path, "short, friendly", "long, formal")
    ended = replay(tmp_path, document, "--fixture", RECORDING)
    assert ended.code == 1
    lines = [line.strip() for line in ended.out.splitlines()]
    assert lines[0].endswith("approval_approved.json: 1 difference")
    assert lines[1] == "step 'draft' is asked something else than when it was recorded"
    assert "-system: Write a short, friendly letter." in lines
    assert "+system: Write a long, formal letter." in lines


def test_the_shipped_example_passes_and_nothing_is_written(tmp_path: Path) -> None:
    before = RECORDING.read_bytes()
    ended = replay(tmp_path, DOCUMENT, "--fixture", RECORDING, "-f", RECORDING)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count(": ok (4 steps)") == 2
    assert RECORDING.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_an_update_makes_the_recording_pass(tmp_path: Path) -> None:
    document = changed(tmp_path, "short, friendly", "long, formal")
    recording = tmp_path / "recording.json"
    recording.write_bytes(RECORDING.read_bytes())
    updated = replay(tmp_path, document, "--fixture", recording, "--update")
    assert updated.code == 0
    assert updated.out.splitlines()[-1] == f"{recording}: updated"
    assert replay(tmp_path, document, "--fixture", recording).code == 0
    assert replay(tmp_path, DOCUMENT, "--fixture", recording).code == 1


def test_an_update_leaves_a_recording_alone_that_lacks_an_answer(tmp_path: Path) -> None:
    step = "  - {id: more, type: llm, provider: echo, model: any, prompt: more}\noutputs:"
    document = changed(tmp_path, "outputs:", step)
    recording = tmp_path / "recording.json"
    recording.write_bytes(RECORDING.read_bytes())
    ended = replay(tmp_path, document, "--fixture", recording, "--update")
    assert ended.code == 1
    assert "step 'more' asks for an answer (llm) that was not recorded" in ended.out
    assert recording.read_bytes() == RECORDING.read_bytes()
