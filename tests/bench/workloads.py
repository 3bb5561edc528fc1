"""The workloads: as a document for the service, and as the same calls for the floors.

W1 one LLM call; W2 a chain of three; W3 embed → search → LLM; W4 one → eight in parallel → one.
The floors replay `stages`: calls of one stage go out together, the next stage waits for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

INDEX = "bench"
DIMENSIONS = 64
MODEL = "sim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of run. A stage lists its provider calls, `chat` or `embed`."""

    name: str
    title: str
    document: dict[str, Any]
    stages: tuple[tuple[str, ...], ...]


def _llm(step_id: str, prompt: str) -> dict[str, Any]:
    return {
        "id": step_id,
        "type": "llm",
        "provider": "sim",
        "model": MODEL,
        "prompt": prompt,
        "max_tokens": 64,
    }


_W1 = {
    "name": "w1",
    "steps": [_llm("answer", "Answer: {{ inputs.question }}")],
    "outputs": {"answer": "{{ steps.answer.text }}"},
}
_W2 = {
    "name": "w2",
    "steps": [
        _llm("first", "Outline: {{ inputs.question }}"),
        _llm("second", "Draft from: {{ steps.first.text }}"),
        _llm("third", "Polish: {{ steps.second.text }}"),
    ],
    "outputs": {"answer": "{{ steps.third.text }}"},
}
_W3 = {
    "name": "w3",
    "steps": [
        {"id": "embed", "type": "embed", "provider": "sim", "model": MODEL, "input": "{{ inputs.question }}"},
        {
            "id": "search",
            "type": "vector_search",
            "database": "embedded",
            "index": INDEX,
            "query": "{{ steps.embed.vector }}",
            "top_k": 3,
        },
        _llm(
            "answer",
            "{% for hit in steps.search.hits %}- {{ hit.metadata.text }}\n{% endfor %}"
            "Question: {{ inputs.question }}",
        ),
    ],
    "outputs": {"answer": "{{ steps.answer.text }}"},
}
_W4 = {
    "name": "w4",
    "steps": [
        _llm("plan", "Plan: {{ inputs.question }}"),
        *(_llm(f"part_{n}", f"Part {n} of {{{{ steps.plan.text }}}}") for n in range(8)),
        _llm("join", "Join: " + " ".join(f"{{{{ steps.part_{n}.text }}}}" for n in range(8))),
    ],
    "outputs": {"answer": "{{ steps.join.text }}"},
}

WORKLOADS: Final = {
    "w1": Workload(name="w1", title="one LLM call", document=_W1, stages=(("chat",),)),
    "w2": Workload(name="w2", title="chain of three", document=_W2, stages=(("chat",),) * 3),
    "w3": Workload(name="w3", title="embed → search → LLM", document=_W3, stages=(("embed",), ("chat",))),
    "w4": Workload(
        name="w4",
        title="one → eight → one",
        document=_W4,
        stages=(("chat",), ("chat",) * 8, ("chat",)),
    ),
}
CHAT_BODY: Final = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Outline: what is a group commit?"}],
    "max_tokens": 64,
}
EMBED_BODY: Final = {"model": MODEL, "input": ["what is a group commit?"]}
