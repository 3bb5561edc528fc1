"""Log lines: JSON with ids, no secrets, and never an exception or a wait."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
import structlog

from app.observability import log_context
from app.observability.log_writer import LogWriter
from app.observability.logging import configure_logging
from app.security.redaction import Redactor

CANARY = 'canary-"7f3a/91+c0\\de'


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    config = structlog.get_config()
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**config)
    log_context.bind_only()


def lines_of(act: Callable[[], None], **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text_of(act, **options).splitlines()]


def text_of(act: Callable[[], None], **options: Any) -> str:
    stream = io.StringIO()
    writer = configure_logging(redaction=Redactor([CANARY]), stream=stream, **options)
    act()
    writer.close()
    return stream.getvalue()


def fail(message: str) -> NoReturn:
    raise ValueError(message)


def leak_everywhere() -> None:
    log = structlog.get_logger("app.test")
    log.info("calling with %s", CANARY)
    log.info("as a value", answer={"nested": [CANARY, {"deep": f"x{CANARY}y"}]})
    log.info("as a key", **{CANARY: 1}, other={CANARY: 2})
    log.info("as an object", error=ValueError(CANARY), path=repr(CANARY))
    bound = log_context.bind(run_id=CANARY)
    log.info("bound")
    log_context.reset(bound)
    logging.getLogger("library").warning("sent %s", CANARY)
    try:
        fail(CANARY)
    except ValueError:
        log.exception("raised")
        logging.getLogger("library").exception("raised too")


def encodings_of_the_canary() -> set[str]:
    return {CANARY, json.dumps(CANARY)[1:-1], repr(CANARY)[1:-1], json.dumps(repr(CANARY))[1:-1]}


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_registered_secret_is_in_no_line_wherever_it_was_put(format: str) -> None:
    text = text_of(leak_everywhere, format=format)
    assert text.count("\n") >= 8
    for encoding in encodings_of_the_canary():
        assert encoding not in text
    assert "7f3a" not in text


def test_values_of_keys_that_name_credentials_are_removed() -> None:
    def act() -> None:
        structlog.get_logger().info(
            "call", headers={"Authorization": "Token abc", "accept": "x"}, api_key="k"
        )

    (line,) = lines_of(act)
    assert line["headers"] == {"Authorization": "[redacted]", "accept": "x"}
    assert line["api_key"] == "[redacted]"


def test_what_cannot_be_rendered_becomes_a_line_and_no_exception() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    def act() -> None:
        log = structlog.get_logger()
        log.info("hostile", value=Hostile())
        log.info("surrogate \ud800")
        log.info("cycle", value=cycle)
        logging.getLogger("library").warning("%d", "not a number")
        log.info("fine", big=2**200, raw=b"x", when={1: object()})

    cycle: list[Any] = []
    cycle.append(cycle)
    lines = lines_of(act)
    assert len(lines) == 5
    assert "could not be" in lines[0]["event"]
    assert "could not be" in lines[3]["event"]


def test_an_unknown_level_is_refused_with_the_choice() -> None:
    with pytest.raises(ValueError, match="'LOUD' does not exist: use DEBUG"):
        configure_logging(redaction=Redactor(), level="LOUD", stream=io.StringIO())


def test_lines_below_the_level_are_not_written() -> None:
    def act() -> None:
        structlog.get_logger().info("quiet")
        logging.getLogger("library").info("quiet")
        structlog.get_logger().warning("loud")

    assert [line["event"] for line in lines_of(act, level="warning")] == ["loud"]


def test_a_line_carries_what_is_bound_and_the_trace() -> None:
    def act() -> None:
        bound = log_context.bind(run_id="r1", step="answer", attempt=2, request_id="q")
        structlog.get_logger("app.engines").info("step started", type="llm")
        log_context.reset(bound)

    (line,) = lines_of(act, trace_ids=lambda: {"trace_id": "t", "span_id": "s"})
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "step started",
        "type": "llm",
        "level": "info",
        "logger": "app.engines",
        "run_id": "r1",
        "step": "answer",
        "attempt": 2,
        "request_id": "q",
        "trace_id": "t",
        "span_id": "s",
    }


def test_the_servers_own_log_comes_out_in_the_same_form() -> None:
    def act() -> None:
        logging.getLogger("uvicorn.error").info("Application startup complete.")
        logging.getLogger("uvicorn.access").info("GET / 200")
        logging.getLogger("httpx").info("HTTP Request: GET http://example.test/?key=1")

    lines = lines_of(act)
    assert [(line["logger"], line["event"]) for line in lines] == [
        ("uvicorn.error", "Application startup complete.")
    ]


def test_an_exception_is_one_line() -> None:
    def act() -> None:
        try:
            fail("odd")
        except ValueError:
            structlog.get_logger().exception("failed")

    (line,) = lines_of(act)
    assert "ValueError: odd" in line["exception"]


class StuckStream:
    """A pipe whose reader has stopped."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self.text = ""

    def write(self, text: str, /) -> None:
        self.entered.set()
        self.release.wait(10)
        self.text += text

    def flush(self) -> None:
        pass


def test_a_stuck_stream_does_not_hold_up_the_caller_and_lost_lines_are_counted() -> None:
    stream = StuckStream()
    writer = LogWriter(stream, dropped_line=lambda count: f"lost {count}", capacity=10)
    writer.write("first")
    assert stream.entered.wait(5)
    for number in range(100):
        writer.write(f"line {number}")
    stream.release.set()
    writer.close(5)
    assert stream.text.splitlines() == ["first", *(f"line {n}" for n in range(10)), "lost 90"]


def test_a_broken_stream_raises_nothing() -> None:
    class Broken:
        def write(self, text: str, /) -> None:
            raise BrokenPipeError

        def flush(self) -> None:
            pass

    writer = LogWriter(Broken(), dropped_line=str)
    writer.write("a")
    writer.close(5)
    writer.write("b")
    writer.close(5)
