"""Examples of the OpenAPI document. A test validates each against its schema."""

from __future__ import annotations

from typing import Any, Final

_RUN_ID: Final = "0197d6a0-7c1e-7000-8000-000000000000"
_LINKS: Final = {
    "self": f"/v1/runs/{_RUN_ID}",
    "events": f"/v1/runs/{_RUN_ID}/events",
    "cancel": f"/v1/runs/{_RUN_ID}/cancel",
}
DEFINITION: Final[dict[str, Any]] = {
    "name": "greet",
    "version": "1.0",
    "inputs": {
        "type": "object",
        "required": ["who"],
        "properties": {"who": {"type": "string", "maxLength": 200}},
    },
    "steps": [
        {
            "id": "greeting",
            "type": "llm",
            "provider": "openai",
            "model": "gpt-4o-mini",
            "prompt": "Greet {{ inputs.who }} in one sentence.",
            "output": ["text"],
        }
    ],
    "outputs": {"greeting": "{{ steps.greeting.text }}"},
}
DEFINITION_YAML: Final = """\
name: greet
version: "1.0"
inputs:
  type: object
  required: [who]
  properties: {who: {type: string, maxLength: 200}}
steps:
  - id: greeting
    type: llm
    provider: openai
    model: gpt-4o-mini
    prompt: "Greet {{ inputs.who }} in one sentence."
    output: [text]
outputs: {greeting: "{{ steps.greeting.text }}"}
"""
SUBMIT_NAMED: Final[dict[str, Any]] = {
    "workflow": "greet",
    "inputs": {"who": "Ada"},
    "labels": {"team": "search"},
}
SUBMIT_INLINE: Final[dict[str, Any]] = {"workflow": DEFINITION, "inputs": {"who": "Ada"}}
RUN_WORKFLOW: Final[dict[str, Any]] = {"inputs": {"who": "Ada"}, "priority": 10}
CANCEL: Final[dict[str, Any]] = {"reason": "the question was withdrawn"}
PAUSE: Final[dict[str, Any]] = {"reason": "the provider is being moved"}
RERUN: Final[dict[str, Any]] = {"from": "greeting", "inputs": {"who": "Grace"}}
PAUSED: Final[dict[str, Any]] = {"id": _RUN_ID, "status": "paused", "links": _LINKS}
RESUMED: Final[dict[str, Any]] = {"id": _RUN_ID, "status": "running", "links": _LINKS}
RUN_ACCEPTED: Final[dict[str, Any]] = {"id": _RUN_ID, "status": "pending", "links": _LINKS}
RUN_SUMMARY: Final[dict[str, Any]] = {
    "id": _RUN_ID,
    "workflow": "greet",
    "version": "1.0",
    "status": "completed",
    "priority": 0,
    "labels": {"team": "search"},
    "created_at": "2026-01-31T12:00:00.000000Z",
    "started_at": "2026-01-31T12:00:00.001000Z",
    "finished_at": "2026-01-31T12:00:00.621000Z",
    "parent_run_id": None,
    "links": _LINKS,
}
RUN: Final[dict[str, Any]] = {
    **RUN_SUMMARY,
    "inputs": {"who": "Ada"},
    "outputs": {"greeting": "Good morning, Ada!"},
    "error": None,
    "cancel_reason": None,
    "pause_reason": None,
    "wake_at": None,
    "usage": {"input_tokens": 14, "output_tokens": 6},
    "reused": {"steps": 0, "input_tokens": 0, "output_tokens": 0},
    "steps": [
        {
            "path": "greeting",
            "type": "llm",
            "name": None,
            "status": "completed",
            "attempt": 1,
            "started_at": "2026-01-31T12:00:00.001000Z",
            "finished_at": "2026-01-31T12:00:00.620000Z",
            "retry_at": None,
            "skip_reason": None,
            "recovered": False,
            "error": None,
            "usage": {
                "provider": "openai",
                "model": "gpt-4o-mini",
                "input_tokens": 14,
                "output_tokens": 6,
                "cached_tokens": 0,
                "reasoning_tokens": 0,
            },
            "source": None,
        }
    ],
    "steps_omitted": 0,
}
RUN_LIST: Final[dict[str, Any]] = {"data": [RUN_SUMMARY], "next_cursor": None}
CANCEL_RECEIPT: Final[dict[str, Any]] = {
    "id": _RUN_ID,
    "status": "cancelling",
    "calls_aborted": ["greeting"],
    "unknown_effects": [],
    "usage": {"input_tokens": 0, "output_tokens": 0},
    "links": _LINKS,
}
_APPROVAL_ID: Final = "0197d6a0-7c1e-7000-8000-000000000001"
APPROVAL_ANSWER: Final[dict[str, Any]] = {"action": "approve", "data": {"note": "send it"}}
APPROVAL: Final[dict[str, Any]] = {
    "id": _APPROVAL_ID,
    "run_id": _RUN_ID,
    "path": "ok",
    "workflow": "newsletter",
    "status": "pending",
    "message": "Send this to 1,200 readers?",
    "form": {"type": "object", "properties": {"note": {"type": "string"}}},
    "created_at": "2026-01-31T12:00:00.000000Z",
    "expires_at": None,
    "action": None,
    "answered_by": None,
    "answered_at": None,
    "links": {"self": f"/v1/approvals/{_APPROVAL_ID}", "run": f"/v1/runs/{_RUN_ID}"},
}
APPROVAL_ANSWERED: Final[dict[str, Any]] = {
    **APPROVAL,
    "status": "answered",
    "action": "approve",
    "answered_by": "local",
    "answered_at": "2026-01-31T12:05:00.000000Z",
}
APPROVAL_LIST: Final[dict[str, Any]] = {"data": [APPROVAL], "next_cursor": None}
EVENT_STREAM: Final = (
    "retry: 2000\n\nid: 5\nevent: run.completed\n"
    f'data: {{"seq":5,"type":"run.completed","run_id":"{_RUN_ID}","path":null,"attempt":null,'
    '"at":"2026-01-31T12:00:00.621000Z","data":{"outputs":{"greeting":"Good morning, Ada!"}}}\n\n'
)
EVENT_LINES: Final = (
    f'{{"seq":5,"type":"run.completed","run_id":"{_RUN_ID}","path":null,"attempt":null,'
    '"at":"2026-01-31T12:00:00.621000Z","data":{"outputs":{"greeting":"Good morning, Ada!"}}}\n'
)
WORKFLOW_SUMMARY: Final[dict[str, Any]] = {
    "name": "greet",
    "version": "1.0",
    "revision": 1,
    "description": None,
    "labels": {},
    "created_at": "2026-01-31T12:00:00.000000Z",
    "links": {
        "self": "/v1/workflows/greet/versions/1.0",
        "versions": "/v1/workflows/greet/versions",
        "runs": "/v1/workflows/greet/runs",
    },
}
WORKFLOW: Final[dict[str, Any]] = {
    **WORKFLOW_SUMMARY,
    "inputs_schema": DEFINITION["inputs"],
    "steps": [{"id": "greeting", "type": "llm"}],
    "definition": DEFINITION,
}
_WARNING: Final[dict[str, Any]] = {
    "pointer": "/steps/0/provider",
    "line": 8,
    "column": 5,
    "detail": "provider 'openai-eu' is not configured",
    "hint": "did you mean 'openai'?",
}
REGISTERED: Final[dict[str, Any]] = {**WORKFLOW, "warnings": [_WARNING]}
WORKFLOW_LIST: Final[dict[str, Any]] = {"data": [WORKFLOW_SUMMARY], "next_cursor": None}
VALID_WORKFLOW: Final[dict[str, Any]] = {
    "valid": True,
    "name": "greet",
    "version": "1.0",
    "inputs_schema": DEFINITION["inputs"],
    "steps": [{"id": "greeting", "type": "llm"}],
    "warnings": [],
}
