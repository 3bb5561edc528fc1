"""The receiver that the API guide shows verifies what the service sends, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from app.services.webhook_signing import signed_headers
from tests.examples.snippets import all_snippets
from tests.stores.webhook_samples import OTHER_SECRET, SECRET

BODY = b'{"type":"run.completed","timestamp":"2026-01-31T12:00:00Z","data":{"run_id":"r1"}}'
Receive = Callable[[dict[str, str], bytes, str, set[str]], int]


@pytest.fixture
def receive() -> Receive:
    (shown,) = [it.text for it in all_snippets() if it.language == "python" and "def receive(" in it.text]
    names: dict[str, Any] = {}
    exec(compile(shown, "docs/api.md", "exec"), names)  # noqa: S102  our own document is what is tested
    found: Receive = names["receive"]
    return found


@pytest.mark.parametrize(
    ("secret", "seconds", "body"),
    [
        pytest.param(OTHER_SECRET, 0, BODY, id="signed by somebody else"),
        pytest.param(SECRET, -301, BODY, id="replayed"),
        pytest.param(SECRET, 0, BODY.replace(b"r1", b"r2"), id="changed"),
    ],
)
def test_what_the_service_did_not_send_now_is_refused(
    receive: Receive, secret: str, seconds: float, body: bytes
) -> None:
    headers = signed_headers("msg_1", BODY, at=time.time() + seconds, signing_secrets=[secret])
    seen: set[str] = set()
    assert receive(dict(headers), body, SECRET, seen) == 401
    assert not seen


def test_an_event_that_comes_twice_counts_once(receive: Receive, capsys: pytest.CaptureFixture[str]) -> None:
    headers = dict(signed_headers("msg_1", BODY, at=time.time(), signing_secrets=[OTHER_SECRET, SECRET]))
    seen: set[str] = set()
    assert [receive(headers, BODY, SECRET, seen) for _ in range(2)] == [204, 204]
    assert capsys.readouterr().out == "run.completed r1\n"
