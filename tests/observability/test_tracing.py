"""Spans form one tree from the request to the provider call, and carry no content."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from app.observability.otel import OpenTelemetryTracer, RedactingExporter
from app.observability.tracing import NullTracer, Tracer, make_tracer
from app.ports.errors import TemporaryError
from app.ports.models import Usage
from app.ports.turns import SHORT_SECONDS
from app.security.redaction import Redactor

CANARY = "canary-93fe02b7"


class Recorded:
    """A tracer and the spans it exported, by name."""

    def __init__(self) -> None:
        self.memory = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(RedactingExporter(self.memory, Redactor([CANARY]))))
        self.tracer = OpenTelemetryTracer(provider)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.memory.get_finished_spans()}


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def drive(tracer: Tracer, parent: str | None = None) -> None:
    usage = Usage(input_tokens=7, output_tokens=3)
    with (
        tracer.run("run-1", "rag", parent=parent),
        tracer.step("answer", "llm", 2),
        tracer.call("chat", "openai", "gpt-5") as call,
    ):
        call.answered(model="gpt-5-mini", finish_reason="stop", usage=usage)


def test_a_failed_call_is_marked_with_its_class_and_without_its_message(recorded: Recorded) -> None:
    with pytest.raises(TemporaryError), recorded.tracer.call("chat", "openai", "gpt-5"):
        raise TemporaryError("rate_limit", f"slow down, {CANARY}")
    span = recorded.spans()["chat gpt-5"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "rate_limit"
    assert CANARY not in span.to_json()
    assert "slow down" not in span.to_json()


def test_a_cancelled_attempt_is_no_error(recorded: Recorded) -> None:
    with pytest.raises(asyncio.CancelledError), recorded.tracer.step("answer", "llm", 1):
        raise asyncio.CancelledError
    span = recorded.spans()["step llm"]
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes is not None
    assert span.attributes["orchestrator.cancelled"] is True


async def test_a_request_that_breaks_exports_neither_message_nor_secret(recorded: Recorded) -> None:
    app = FastAPI()

    @app.get("/breaks")
    async def breaks() -> None:
        raise RuntimeError(f"a message with {CANARY}")

    recorded.tracer.instrument(app)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.get(f"/breaks?key={CANARY}")
    exported = "".join(span.to_json() for span in recorded.memory.get_finished_spans())
    assert "/breaks" in exported
    assert CANARY not in exported
    assert "a message" not in exported


async def test_request_run_step_and_call_are_one_tree(recorded: Recorded) -> None:
    app = FastAPI()

    @app.post("/v1/runs")
    async def submit() -> None:
        drive(recorded.tracer)

    @app.get("/healthz")
    async def healthz() -> None:
        pass

    recorded.tracer.instrument(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.post("/v1/runs")
        await client.get("/healthz")
    spans = recorded.spans()
    assert set(spans) == {"POST /v1/runs", "run rag", "step llm", "chat gpt-5"}
    assert parent_of(spans["POST /v1/runs"]) is None
    assert parent_of(spans["run rag"]) == id_of(spans["POST /v1/runs"])
    assert parent_of(spans["step llm"]) == id_of(spans["run rag"])
    assert parent_of(spans["chat gpt-5"]) == id_of(spans["step llm"])


def test_a_run_joins_the_trace_of_the_request_that_submitted_it(recorded: Recorded) -> None:
    with recorded.tracer.step("stands-for-a-request", "x", 1):
        parent = recorded.tracer.traceparent()
    drive(recorded.tracer, parent=parent)
    spans = recorded.spans()
    assert parent_of(spans["run rag"]) == id_of(spans["step x"])


def test_a_malformed_parent_starts_a_new_trace(recorded: Recorded) -> None:
    drive(recorded.tracer, parent="not-a-traceparent")
    assert parent_of(recorded.spans()["run rag"]) is None


def test_a_call_carries_the_conventions_attributes(recorded: Recorded) -> None:
    drive(recorded.tracer)
    attributes = dict(recorded.spans()["chat gpt-5"].attributes or {})
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5-mini",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
    }


def test_a_call_to_a_vector_database_says_which_index_and_nothing_of_its_content(recorded: Recorded) -> None:
    with recorded.tracer.vectors("search", "qdrant-main", "articles"):
        pass
    with recorded.tracer.vectors("check", "qdrant-main", None):
        pass
    search, check = recorded.spans()["search articles"], recorded.spans()["check qdrant-main"]
    assert search.attributes == {
        "db.operation.name": "search",
        "db.collection.name": "articles",
        "orchestrator.database.name": "qdrant-main",
    }
    assert check.attributes == {"db.operation.name": "check", "orchestrator.database.name": "qdrant-main"}


def test_headers_and_log_ids_name_the_current_span(recorded: Recorded) -> None:
    assert recorded.tracer.headers() == {}
    assert recorded.tracer.ids() == {}
    with recorded.tracer.run("run-1", "rag"):
        ids = recorded.tracer.ids()
        version, trace_id, span_id, _flags = recorded.tracer.headers()["traceparent"].split("-")
        assert (version, trace_id, span_id) == ("00", ids["trace_id"], ids["span_id"])


def test_without_an_endpoint_nothing_is_traced_and_nothing_is_loaded() -> None:
    tracer = make_tracer(endpoint=None, redaction=Redactor())
    drive(tracer)
    assert isinstance(tracer, NullTracer)
    assert tracer.headers() == {}
    code = (
        "import sys; from app.observability.tracing import make_tracer; "
        "from app.security.redaction import Redactor; make_tracer(endpoint=None, redaction=Redactor()); "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_with_an_endpoint_spans_are_posted_there() -> None:
    import http.server
    import threading

    posted: list[str] = []
    arrived = threading.Event()

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(self.path)
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            arrived.set()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracer = make_tracer(endpoint=f"http://127.0.0.1:{server.server_port}", redaction=Redactor())
        drive(tracer)
        tracer.close()
        assert arrived.wait(10)
        server.shutdown()
    assert posted == ["/v1/traces"]


def test_spans_are_exported_in_short_turns() -> None:
    class Exporter(InMemorySpanExporter):
        seconds = 0.0

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            self.seconds = round(sys.getswitchinterval(), 6)
            return super().export(spans)

    exporter = Exporter()
    assert RedactingExporter(exporter, Redactor([])).export([]) is SpanExportResult.SUCCESS
    assert exporter.seconds == SHORT_SECONDS
    assert round(sys.getswitchinterval(), 6) != SHORT_SECONDS
