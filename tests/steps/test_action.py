"""The `action` kind."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import structlog
from pydantic import ValidationError

from app.ports.errors import PermanentError, TemporaryError
from app.ports.http import HttpResponse
from app.steps.action import ActionConfig, ActionKind
from tests.steps.fakes import CALL, FakeHttp, FakeServices, problems, run

HOOK = "https://hooks.example.com/in?token=canary"


@pytest.mark.parametrize("action", ["", "two words", "x" * 101, "-x", 5, None, "a\nb"])
def test_a_name_is_one_word(action: object) -> None:
    with pytest.raises(ValidationError):
        ActionConfig.model_validate({"action": action})


def test_a_notice_to_no_url_and_an_unknown_level_are_refused_where_they_stand() -> None:
    kind = ActionKind()

    assert set(problems(kind, {"action": "notify", "url": "ftp://x"})) == {"/url"}
    assert set(problems(kind, {"action": "notify", "parameters": {"url": 5}})) == {"/parameters/url"}
    assert set(problems(kind, {"action": "log", "level": "loud"})) == {"/level"}


@pytest.mark.parametrize(
    "document",
    [
        {"action": "notify", "url": "{{ inputs.url }}"},
        {"action": "notify", "channel": "ops"},
        {"action": "log", "level": "{{ inputs.level }}", "message": "m"},
        {"action": "queue_review", "url": "anything", "level": 5},
        {"action": "emit", "parameters": "{{ inputs.all }}"},
    ],
)
def test_free_parameters_and_templates_pass(document: dict[str, Any]) -> None:
    assert problems(ActionKind(), document) == {}


@pytest.mark.parametrize("document", [{"action": "notify", "url": "file:///etc/passwd"}])
async def test_a_url_is_checked_again_when_it_is_rendered(document: dict[str, Any]) -> None:
    client = FakeHttp()
    with pytest.raises(PermanentError, match="'url' of 'notify'"):
        await run(ActionKind(), document, FakeServices(http=client))
    assert client.requests == []


@pytest.mark.parametrize(
    ("status", "error"),
    [(302, PermanentError), (404, PermanentError), (429, TemporaryError), (503, TemporaryError)],
)
async def test_a_webhook_that_does_not_take_it_fails_the_step(status: int, error: type[Exception]) -> None:
    client = FakeHttp(HttpResponse(status=status, headers={"retry-after": "9"}, content=b""))
    with pytest.raises(error, match=r"webhook at 'hooks\.example\.com'") as raised:
        await run(
            ActionKind(), {"action": "publish"}, FakeServices(operator_http=client, action_webhook=HOOK)
        )
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(("action", "size"), [("emit", 70_000), ("publish", 70_000), ("notify", 1_100_000)])
async def test_parameters_beyond_the_limit_are_neither_sent_nor_recorded(action: str, size: int) -> None:
    document = {"action": action, "text": "x" * size}
    if action == "notify":
        document["url"] = HOOK
    with pytest.raises(PermanentError) as raised:
        await run(ActionKind(), document)
    assert raised.value.error_class == "too_large"


async def test_parameters_that_are_no_json_fail_for_good() -> None:
    with pytest.raises(PermanentError, match="cannot be written as JSON"):
        await run(ActionKind(), {"action": "emit", "n": 10**40})


async def test_an_action_without_a_meaning_goes_to_the_operators_webhook() -> None:
    client = FakeHttp()
    document = {"action": "queue_review", "parameters": {"queue": "a", "text": "{{ raw }}"}, "queue": "b"}
    outcome = await run(ActionKind(), document, FakeServices(operator_http=client, action_webhook=HOOK))

    request = client.requests[0]
    assert (request.method, request.url) == ("POST", HOOK)
    assert request.headers["Idempotency-Key"] == CALL.idempotency_key
    assert orjson.loads(request.content or b"") == {
        "action": "queue_review",
        "parameters": {"queue": "b", "text": "{{ raw }}"},
        "workflow": "demo",
        "run_id": CALL.run_id,
        "step": CALL.path,
        "idempotency_key": CALL.idempotency_key,
    }
    assert outcome.outputs == {"result": {"action": "queue_review", "delivered": True}}
    assert outcome.emitted == ()


async def test_a_notice_with_a_url_goes_there_and_not_to_the_operator() -> None:
    client = FakeHttp()
    document = {"action": "notify", "url": "https://other.example.com", "message": "done"}
    await run(ActionKind(), document, FakeServices(http=client, action_webhook=HOOK))

    assert [request.url for request in client.requests] == ["https://other.example.com"]
    assert orjson.loads(client.requests[0].content or b"")["parameters"] == {"message": "done"}


@pytest.mark.parametrize("action", ["publish", "notify", "send_notification"])
async def test_without_a_webhook_an_action_is_logged_and_recorded(action: str) -> None:
    client = FakeHttp()
    with structlog.testing.capture_logs() as lines:
        outcome = await run(
            ActionKind(), {"action": action, "channel": "ops", "message": "done"}, FakeServices(http=client)
        )

    assert client.requests == []
    assert outcome.emitted == ({"action": action, "parameters": {"channel": "ops", "message": "done"}},)
    assert outcome.outputs == {"result": {"action": action, "delivered": False}}
    assert [line["message"] for line in lines] == ["done"]


async def test_emit_records_an_event_and_calls_nobody() -> None:
    client = FakeHttp()
    outcome = await run(
        ActionKind(), {"action": "emit", "score": 5}, FakeServices(operator_http=client, action_webhook=HOOK)
    )

    assert outcome.emitted == ({"action": "emit", "parameters": {"score": 5}},)
    assert client.requests == []


async def test_a_log_line_is_bounded_and_shows_no_secret() -> None:
    document = {
        "action": "log",
        "level": "warning",
        "message": "m" * 100_000,
        "tokens": 12,
        "nested": [{"Api-Key": "canary", "refresh_token": "canary"}],
        "password": "canary",
        "long": "x" * 100_000,
    }
    with structlog.testing.capture_logs() as lines:
        outcome = await run(ActionKind(), document)

    (line,) = lines
    assert line["log_level"] == "warning"
    assert len(line["message"]) == 2_000
    assert len(line["parameters"]) <= 4_000
    assert '"tokens": 12' in line["parameters"]
    assert "canary" not in str(line)
    assert (line["run_id"], line["step"], line["attempt"]) == ("run-1", "step", 1)
    assert outcome.emitted == ()
