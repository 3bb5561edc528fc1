"""The run that is killed again and again: a chain of three steps whose answers depend on one another.

The simulator's model `echo` answers with what it was asked, so that outputs show whether every step got
the right outcome of the step before.
"""

from __future__ import annotations

from typing import Any, Final

STEPS: Final = ("first", "second", "third")
LABEL: Final = "ticket"


def chain(*, model: str = "echo") -> dict[str, Any]:
    """The document, calling the simulator as the provider `sim`."""
    return {
        "name": "chain",
        "version": "1",
        "inputs": {"type": "object", "properties": {"word": {"type": "string"}}},
        "steps": [
            _step("first", model, "{{ inputs.word }} 1"),
            _step("second", model, "{{ steps.first.text }} 2"),
            _step("third", model, "{{ steps.second.text }} 3"),
        ],
        "outputs": {"answer": "{{ steps.third.text }}"},
    }


def _step(name: str, model: str, prompt: str) -> dict[str, Any]:
    return {"id": name, "type": "llm", "provider": "sim", "model": model, "prompt": prompt}


def outputs_of(word: str) -> dict[str, str]:
    """What an undisturbed run brings."""
    return {"answer": f"{word} 1 2 3"}


def submission(word: str, **more: Any) -> dict[str, Any]:
    """The body of a submission; the word is also a label, by which the run is found again."""
    return {"workflow": chain(), "inputs": {"word": word}, "labels": {LABEL: word}, **more}
