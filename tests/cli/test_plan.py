"""`plan`: what a document would do and use, said without calling anybody; and the program's own version."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from app.api.v1.schemas.plans import Plan
from tests.cli.program import call

DOCUMENT = """\
name: planned
inputs: {type: object, required: [q], properties: {q: {type: string}}}
steps:
  - {id: ask, type: llm, provider: openai, model: gpt-4o-mini, max_tokens: 100, prompt: "Why {{ inputs.q }}?"}
  - {id: sum, type: llm, provider: opneai, model: gpt-4o-mini, prompt: "In short: {{ steps.ask.text }}"}
budget: {max_tokens: 50}
"""


def written(folder: Path, text: str = DOCUMENT) -> Path:
    file = folder / "planned.yaml"
    file.write_text(text)
    return file


def test_a_document_with_problems_is_not_planned(tmp_path: Path) -> None:
    ended = call("plan", written(tmp_path, DOCUMENT.replace("llm", "lm", 1)), cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "planned.yaml:4:15: /steps/0/type: unknown kind 'lm'" in ended.err


def test_inputs_that_do_not_fit_are_told_with_what_to_write(tmp_path: Path) -> None:
    ended = call("plan", written(tmp_path), "--input", "q=5", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "inputs: /q: " in ended.err
    assert "write --input 'q=\"5\"'" in ended.err


def test_a_plan_tells_bounds_prompts_and_what_the_settings_lack(tmp_path: Path) -> None:
    ended = call("plan", written(tmp_path), "-i", "q=blue", cwd=tmp_path)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "planned 1: at most"
    assert lines[1].split() == [
        "step",
        "type",
        "runs",
        "calls",
        "input",
        "tokens",
        "output",
        "tokens",
        "cost",
    ]
    ask, later, total = (line.split() for line in lines[2:5])
    assert ask[:4] == ["ask", "llm", "1", "3"]
    assert ask[5] == "300"
    assert ask[6].startswith("$0.000")
    assert later[-1] == total[-1] == "?"
    assert "  prompt: Why blue?" in lines
    assert "  not known before the run: steps.ask.text" in lines
    assert "budget: one call alone may use more than it leaves, so that call will not be made" in lines
    file = tmp_path / "planned.yaml"
    assert ended.error_lines == [
        f"{file}:5:26: warning: /steps/1/provider: provider 'opneai' is not configured "
        "(did you mean 'openai'?)",
        f"{file}:4:26: warning: /steps/0/provider: provider 'openai' has no API key "
        "(ask the operator to configure one)",
    ]


def test_a_plan_as_json_is_the_answer_of_the_service(tmp_path: Path) -> None:
    ended = call("plan", written(tmp_path), "--inputs", '{"q": "blue"}', "--json", cwd=tmp_path)
    assert ended.code == 0
    plan = Plan.model_validate_json(ended.out)
    assert [step.step for step in plan.steps] == ["ask", "sum"]
    assert json.loads(ended.out)["warnings"][0]["line"] == 5
    assert not list(tmp_path.glob(".orchestrator*"))


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    ended = call("--version", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"llm-orchestrator {metadata.version('llm-orchestrator')}\n"
