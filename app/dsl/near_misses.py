"""Keys that look like another one, in steps whose unknown keys are passed on.

An `llm` step hands every key that it does not know to the provider, so a misspelt one would change what the
step does without a word. Keys that say what only the operator's configuration can say are told of too: they
would go into the body of the call. Pure: compiled steps in, warnings out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Final

from app.dsl.blocks import BlockStep
from app.dsl.document import StepDocument
from app.ports.problems import Problem, pointer
from app.steps.llm_config import LlmConfig

CLOSE: Final = 0.8
MOST_WARNINGS: Final = 100
OF_INSTANCES: Final = frozenset({"api_key", "authorization", "base_url", "headers"})
OF_PROVIDERS: Final = frozenset({"top_k"})
"""Options of many providers that are nearly a key of ours."""
KNOWN: Final = sorted({*LlmConfig.model_fields, *StepDocument.model_fields})


def near_misses(steps: Iterable[BlockStep]) -> tuple[Problem, ...]:
    """A warning for each key that is passed on and was likely not meant to be, however deep its step is."""
    return tuple(islice(_within(steps), MOST_WARNINGS))


def _within(steps: Iterable[BlockStep]) -> Iterator[Problem]:
    for step in steps:
        yield from _of(step)
        for body in step.bodies.values():
            yield from _within(body)


def _of(step: BlockStep) -> Iterator[Problem]:
    config = step.parts.model
    if not isinstance(config, LlmConfig):
        return
    for key in config.model_extra or {}:
        near = [] if key in OF_PROVIDERS else get_close_matches(key, KNOWN, n=1, cutoff=CLOSE)
        if key in OF_INSTANCES:
            hint = "remove it: keys and addresses are the operator's to configure"
        elif near:
            hint = f"did you mean {near[0]!r}? If the provider is to have it, write it under 'extra'"
        else:
            continue
        yield Problem(
            pointer=step.parts.draft.pointer + pointer(key),
            detail=f"{key!r} is no key of the step and goes to the provider as it is",
            hint=hint,
        )
