"""What serialized values take in memory. `sys.getsizeof` tells their length, not what is allocated."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import orjson
import pytest

from app.api.v1.rendering import render_accepted
from app.core import events as e
from app.engines.codec import encode
from app.ports.buffers import trimmed
from app.ports.models import ChatRequest, Message
from app.providers.openai.dialect import Dialect
from app.providers.openai.format import chat_body
from tests.stores.samples import a_run

MANY = 200
OVERHEAD = 400
"""Bytes of an object's head, its place in the list, and what else a row is made of."""


def a_row() -> object:
    event = e.StepSucceeded(path="answer", attempt=1, at=1.0)
    return encode("r1", 1, event, {"outputs": {"text": "short"}})


def a_request() -> bytes:
    request = ChatRequest(model="m", messages=[Message(role="user", content="short")])
    return chat_body(request, Dialect(), stream=False)


def an_answer() -> bytes:
    return render_accepted(a_run())


@pytest.mark.parametrize("make", [a_row, a_request, an_answer])
def test_what_a_run_in_flight_keeps_takes_no_more_than_its_length(make: Callable[[], object]) -> None:
    make()
    tracemalloc.start()
    kept = [make() for _ in range(MANY)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == MANY
    assert size / MANY < OVERHEAD


def test_the_bytes_are_the_same() -> None:
    for value in ({}, {"a": [1, "ü"]}, "x" * 100_000):
        text = orjson.dumps(value)
        assert trimmed(text) == text
        assert trimmed(text) is not text
