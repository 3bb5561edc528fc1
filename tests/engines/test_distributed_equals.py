"""Over random bodies: a distributed map brings what the same map brings that is not distributed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engines.history import History
from tests.engines.harness import bench, workflow
from tests.engines.test_nested import transform

OUTER = (
    "item",
    "index",
    "inputs.k",
    "inputs.deep.a.b",
    "input.k ~ item",
    "inputs | length",
    "steps.base.result",
    "outputs.alias",
    "outputs.base",
    "steps.skipped.result | default('none')",
    "steps.broken.error.class",
    "steps.base",
    "run.workflow ~ run.version",
    "100 // item",
    "10 // (index % 3)",
    "item.missing",
    "steps.skipped.result",
)
"""What any step may read; some of it fails for some items."""


@dataclass
class Writer:
    """Writes a body by the choices of Hypothesis; ids are never used twice."""

    draw: Any
    names: int = 0
    within: list[str] = field(default_factory=list)

    def one(self, choices: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(choices))

    def name(self) -> str:
        self.names += 1
        return f"s{self.names}"

    def expression(self, before: Sequence[str]) -> str:
        read = [*OUTER, *self.within, *(f"steps.{step}.result | default(0)" for step in before)]
        return " ~ '/' ~ ".join(f"({self.one(read)})" for _ in range(self.draw(st.integers(1, 2))))

    def common(self, before: Sequence[str]) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if self.draw(st.integers(0, 3)) == 0:
            more["condition"] = self.one(["index % 2 == 0", "item", "inputs.no", "steps.base.result"])
        if before and self.draw(st.integers(0, 3)) == 0:
            more["depends_on"] = self.one(before)
            more["run_on"] = self.one(["success", "failure", "always"])
        if self.draw(st.integers(0, 4)) == 0:
            more["on_error"] = self.one(["continue", {"action": "continue", "value": "{{ inputs.k }}"}])
        return more

    def steps(self, depth: int) -> list[dict[str, Any]]:
        written: list[dict[str, Any]] = []
        computed: list[str] = []
        for _ in range(self.draw(st.integers(1, 3))):
            ids = [step["id"] for step in written]
            kind = self.one(["transform", "transform", "branch", "parallel", "map", "loop"])
            step = self.step(kind if depth else "transform", depth, computed)
            written.append({**step, **self.common(ids)})
            if step["type"] == "transform":
                computed.append(step["id"])
        return written

    def step(self, kind: str, depth: int, before: Sequence[str]) -> dict[str, Any]:
        name = self.name()
        base = {"id": name, "type": kind}
        match kind:
            case "branch":
                cases = {"0": self.steps(depth - 1), "1": self.steps(depth - 1)}
                return {**base, "condition": "index % 3", "branches": cases}
            case "parallel":
                return {**base, "tasks": self.steps(depth - 1)}
            case "map":
                self.within.append(f"{name}_item")
                steps = self.steps(depth - 1)
                self.within.pop()
                return {**base, **self.mapping(f"{name}_item"), "items": "range(3) | list", "steps": steps}
            case "loop":
                self.within.append("loop.index")
                steps = self.steps(depth - 1)
                self.within.pop()
                return {**base, "max_iterations": 2, "until": "index % 2 == 1", "steps": steps}
            case _:
                return transform(name, self.expression(before))

    def mapping(self, item: str) -> dict[str, Any]:
        return {
            "as": item,
            "distribute": self.draw(st.booleans()),
            "max_concurrency": self.draw(st.integers(1, 3)),
            "on_item_error": self.one(["fail", "continue", "continue", "drop", "drop"]),
        }


@st.composite
def documents(draw: Any) -> dict[str, Any]:
    """A workflow whose map `each` is to be distributed or not, at the top or within another step."""
    writer = Writer(draw)
    around = draw(st.sampled_from(["nothing", "map", "loop"]))
    writer.within += {"nothing": [], "map": ["row"], "loop": ["loop.iteration"]}[around]
    each = {
        **writer.mapping("item"),
        "id": "each",
        "type": "map",
        "items": "inputs.xs",
        "on_error": draw(st.sampled_from(["fail", "fail", "continue"])),
        "steps": writer.steps(2),
    }
    body = [each, transform("seen", "steps.each")]
    steps: dict[str, Any] = {
        "nothing": each,
        "map": {"id": "rows", "type": "map", "items": [[1], "x"], "as": "row", "steps": body},
        "loop": {"id": "again", "type": "loop", "max_iterations": 2, "steps": body},
    }[around]
    before = [
        transform("base", "{'z': 1}", output=["alias"]),
        transform("skipped", "1", condition="false"),
        transform("broken", "1 // 0"),
        {"id": "calm", "type": "transform", "expression": "1", "depends_on": "broken", "run_on": "always"},
    ]
    last = {"nothing": "each", "map": "rows", "loop": "again"}[around]
    return workflow(
        *before,
        {**steps, "depends_on": "calm", "run_on": "always"},
        transform("told", f"steps.{last}"),
        transform("failed", f"steps.{last}.error.class", depends_on=last, run_on="failure"),
    )


def undistributed(value: Any) -> Any:
    """The same document without the word."""
    if isinstance(value, dict):
        return {key: undistributed(inner) for key, inner in value.items() if key != "distribute"}
    return [undistributed(inner) for inner in value] if isinstance(value, list) else value


def distributed(document: dict[str, Any]) -> dict[str, Any]:
    """With the map `each` distributed."""
    if document.get("id") == "each":
        return {**document, "distribute": True}
    steps = document.get("steps")
    return {**document, "steps": [distributed(step) for step in steps]} if steps else document


def without_races(value: Any) -> Any:
    """Of the error of an item its index: which of several steps that fail side by side is first is open."""
    if isinstance(value, dict):
        if value.keys() == {"index", "path", "class", "message"}:
            return value["index"]
        return {key: without_races(inner) for key, inner in value.items()}
    return [without_races(inner) for inner in value] if isinstance(value, list) else value


def seen(history: History) -> Any:
    """What a reader of the outputs and of the steps around the map can see."""
    step, state = history.steps.get("told"), history.state.steps
    told = None if step is None else without_races(step.outputs)
    return told, {name: state[name].status for name in ("told", "failed")}


INPUTS = {"xs": [1, 2, 0, 3, "text"], "k": "K", "deep": {"a": {"b": [1]}}, "no": False}


@pytest.mark.timeout(300)
@settings(max_examples=40, deadline=None)
@given(documents())
def test_a_distributed_map_brings_what_an_undistributed_one_brings(document: dict[str, Any]) -> None:
    async def both() -> None:
        async with bench() as it:
            plain = await it.run(undistributed(document), INPUTS)
            spread = await it.run(distributed(document), INPUTS)
            assert seen(spread) == seen(plain)

    asyncio.run(both())
