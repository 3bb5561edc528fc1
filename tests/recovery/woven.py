"""The run that is killed where several processes share the work: a map, and steps side by side.

Every answer names its own step and its own run. So an outcome that came to the wrong step, as happens where
outcomes are told apart by the order in which they come, is seen in the outputs.
"""

from __future__ import annotations

from typing import Any, Final

from tests.recovery.chain import LABEL

ITEMS: Final = 4
SIDES: Final = ("left", "right")
PATHS: Final = ("first", *(f"each[{item}].say" for item in range(ITEMS)), *SIDES, "last")
"""Every step that calls the model."""
SPREAD_MS: Final = 200
"""By how much the answers are to differ in time: so they come in another order than they were asked for."""


def woven() -> dict[str, Any]:
    """The document, calling the simulator as the provider `sim`."""
    each = {
        "id": "each",
        "type": "map",
        "items": f"range({ITEMS}) | list",
        "steps": [_ask("say", "{{ steps.first.text }} {{ item }}")],
    }
    sides = [_ask(side, f"{{{{ steps.first.text }}}} {side}") for side in SIDES]
    last = _ask("last", "{{ steps.left.text }}, {{ steps.right.text }}")
    return {
        "name": "woven",
        "version": "1",
        "inputs": {"type": "object", "properties": {"word": {"type": "string"}}},
        "steps": [_ask("first", "{{ inputs.word }}"), each, *sides, {**last, "depends_on": ["each"]}],
        "outputs": {"each": "{{ steps.each.results }}", "last": "{{ steps.last.text }}"},
    }


def _ask(name: str, prompt: str) -> dict[str, Any]:
    return {"id": name, "type": "llm", "provider": "sim", "model": "echo", "prompt": prompt}


def outputs_of(word: str) -> dict[str, Any]:
    """What an undisturbed run brings."""
    return {"each": [f"{word} {item}" for item in range(ITEMS)], "last": f"{word} left, {word} right"}


def submission(word: str) -> dict[str, Any]:
    """The body of a submission; the word is also a label, by which the run is found again."""
    return {"workflow": woven(), "inputs": {"word": word}, "labels": {LABEL: word}}
