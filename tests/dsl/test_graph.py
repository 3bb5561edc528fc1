"""Circles and ends of graphs."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.dsl.graph import cycles, leaves

GRAPHS = st.dictionaries(
    st.integers(0, 9).map(str), st.lists(st.integers(0, 9).map(str), unique=True), max_size=10
).map(
    lambda graph: {
        step: [need for need in needs if need in graph and need != step] for step, needs in graph.items()
    }
)


def test_two_circles_one_behind_the_other_are_both_found() -> None:
    graph = {"a": ["c", "b"], "b": ["a"], "c": ["d"], "d": ["c"], "e": ["a"], "f": []}
    assert cycles(graph) == [("c", "d", "c"), ("a", "b", "a")]


def test_leaves_are_what_nothing_needs() -> None:
    assert leaves({"a": [], "b": ["a"], "c": ["a"], "d": ["c"]}) == ("b", "d")


def reachable(graph: dict[str, list[str]], start: str) -> set[str]:
    """Everything that a step waits for, directly or not."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for need in graph[waiting.pop()]:
            if need not in seen:
                seen.add(need)
                waiting.append(need)
    return seen


@given(GRAPHS)
def test_circles_are_real_and_every_set_that_waits_for_itself_has_one(graph: dict[str, list[str]]) -> None:
    found = cycles(graph)
    for circle in found:
        assert circle[0] == circle[-1]
        assert len(set(circle)) == len(circle) - 1
        assert all(need in graph[step] for step, need in pairwise(circle))
    behind = {step: reachable(graph, step) for step in graph}
    for step in graph:
        together = {other for other in behind[step] if step in behind[other]}
        if step in behind[step]:
            assert any(together.issuperset(circle) for circle in found)
