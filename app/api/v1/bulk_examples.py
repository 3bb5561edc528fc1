"""Examples of the operations on many runs, and of recordings. A test validates each against its schema."""

from __future__ import annotations

from typing import Any, Final

_BATCH_ID: Final = "0197d6a0-7c1e-7000-8000-00000000000b"
_RUN_IDS: Final = ["0197d6a0-7c1e-7000-8000-000000000000", "0197d6a0-7c1e-7000-8000-000000000001"]
SUBMIT_BATCH: Final[dict[str, Any]] = {
    "workflow": "greet",
    "runs": [{"inputs": {"who": "Ada"}}, {"inputs": {"who": "Grace"}, "priority": 10}],
    "labels": {"team": "search"},
}
BATCH_LINES: Final = '{"who": "Ada"}\n{"who": "Grace"}\n'
BATCH_ACCEPTED: Final[dict[str, Any]] = {
    "batch": _BATCH_ID,
    "count": 2,
    "run_ids": _RUN_IDS,
    "links": {"runs": f"/v1/runs?label=batch:{_BATCH_ID}"},
}
BULK_CANCEL: Final[dict[str, Any]] = {
    "filter": {"status": ["pending", "running"], "labels": {"batch": _BATCH_ID}},
    "reason": "the wrong file was sent",
}
BULK_RETRY: Final[dict[str, Any]] = {
    "filter": {"status": ["failed"], "workflow": "greet", "created_after": "2026-01-31T12:00:00Z"},
    "limit": 100,
}
BULK_OUTCOME: Final[dict[str, Any]] = {
    "matched": 2,
    "accepted": 1,
    "failed": [
        {"id": _RUN_IDS[1], "code": "run_not_active", "detail": f"run {_RUN_IDS[1]!r} has ended: completed"}
    ],
    "next_cursor": None,
}
EXPORT_FIXTURE: Final[dict[str, Any]] = {"redact": ["/inputs/who", "/steps/greeting/outputs/text"]}
RECORDING: Final[dict[str, Any]] = {
    "recording": 1,
    "run": {
        "id": _RUN_IDS[0],
        "workflow": "greet",
        "version": "1.0",
        "status": "completed",
        "outputs": {"greeting": "Good morning, Ada!"},
        "finished_at": "2026-01-31T12:00:00.621000Z",
    },
    "definition": {
        "name": "greet",
        "version": "1.0",
        "steps": [
            {
                "id": "greeting",
                "type": "llm",
                "provider": "openai",
                "model": "gpt-4o-mini",
                "prompt": "Greet {{ inputs.who }} in one sentence.",
            }
        ],
        "outputs": {"greeting": "{{ steps.greeting.text }}"},
    },
    "inputs": {"who": "Ada"},
    "steps": {
        "greeting": {
            "type": "llm",
            "status": "completed",
            "hash": "5d9f5c4a4d3c1b9a6e0f7a2b8c4d1e3f",
            "config": {
                "provider": "openai",
                "model": "gpt-4o-mini",
                "prompt": "Greet Ada in one sentence.",
            },
            "outputs": {
                "text": "Good morning, Ada!",
                "model": "gpt-4o-mini",
                "usage": {"input_tokens": 14, "output_tokens": 6},
                "finish_reason": "stop",
            },
            "billing": {
                "provider": "openai",
                "model": "gpt-4o-mini",
                "input_tokens": 14,
                "output_tokens": 6,
            },
        }
    },
}
