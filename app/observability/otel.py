"""The OpenTelemetry `Tracer`. Importing this loads the SDK: only `make_tracer` and tests do.

Attribute names follow the semantic conventions for generative AI; ours start with `orchestrator.`.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from fastapi import FastAPI
from opentelemetry import context as context_api
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes.db_attributes import DB_COLLECTION_NAME, DB_OPERATION_NAME
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from app.observability.redaction import Redaction
from app.observability.tracing import CallSpan, Operation, Tracer, VectorOperation
from app.ports.errors import CallError
from app.ports.models import Usage
from app.ports.turns import SHORT_TURNS

RUN_ID: Final = "orchestrator.run.id"
STEP_PATH: Final = "orchestrator.step.path"
STEP_TYPE: Final = "orchestrator.step.type"
ATTEMPT: Final = "orchestrator.step.attempt"
DATABASE: Final = "orchestrator.database.name"
CANCELLED: Final = "orchestrator.cancelled"
REMOVED: Final = "[removed]"
PROBES: Final = "/healthz$,/readyz$,/metrics$"
"""Requests that nobody wants to trace, as regular expressions on the URL."""


def exporting_tracer(
    *,
    endpoint: str,
    redaction: Redaction,
    headers: Mapping[str, str],
    service_name: str,
    service_version: str,
) -> Tracer:
    """A tracer that exports in batches, from a thread, to `endpoint` + `/v1/traces`."""
    resource = Resource.create({"service.name": service_name, "service.version": service_version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", headers=dict(headers))
    provider.add_span_processor(BatchSpanProcessor(RedactingExporter(exporter, redaction)))
    return OpenTelemetryTracer(provider)


class RedactingExporter(SpanExporter):
    """Exports spans without secrets, and without the messages and stacks that instrumentations record."""

    def __init__(self, exporter: SpanExporter, redaction: Redaction) -> None:
        self._exporter = exporter
        self._redaction = redaction

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export clean copies, in the thread of the processor that gathered them."""
        with SHORT_TURNS:
            return self._exporter.export([self._clean(span) for span in spans])

    def shutdown(self) -> None:
        """Shut the exporter behind this one down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter behind this one."""
        return self._exporter.force_flush(timeout_millis)

    def _clean(self, span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            name=self._redaction.text(span.name),
            context=span.get_span_context(),
            parent=span.parent,
            resource=span.resource,
            attributes={key: self._clean_value(key, value) for key, value in (span.attributes or {}).items()},
            links=span.links,
            kind=span.kind,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _clean_value(self, key: str, value: AttributeValue) -> AttributeValue:
        clean: AttributeValue = self._redaction.data({key: value}).get(key, REMOVED)
        return clean


class OpenTelemetryTracer:
    """Opens spans of one provider; the global one is left alone."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("llm-orchestrator")
        self._propagator = TraceContextTextMapPropagator()

    def run(self, run_id: str, workflow: str, *, parent: str | None = None) -> AbstractContextManager[object]:
        """See `Tracer`."""
        attributes = {RUN_ID: run_id, gen_ai.GEN_AI_WORKFLOW_NAME: workflow}
        return self._span(f"run {workflow}", attributes, parent=parent)

    def step(self, path: str, step_type: str, attempt: int) -> AbstractContextManager[object]:
        """See `Tracer`."""
        attributes: dict[str, AttributeValue] = {STEP_PATH: path, STEP_TYPE: step_type, ATTEMPT: attempt}
        return self._span(f"step {step_type}", attributes)

    def call(self, operation: Operation, provider: str, model: str) -> AbstractContextManager[CallSpan]:
        """See `Tracer`."""
        attributes = {
            gen_ai.GEN_AI_OPERATION_NAME: operation,
            gen_ai.GEN_AI_PROVIDER_NAME: provider,
            gen_ai.GEN_AI_REQUEST_MODEL: model,
        }
        return self._span(f"{operation} {model}", attributes, kind=SpanKind.CLIENT)

    def vectors(
        self, operation: VectorOperation, database: str, index: str | None
    ) -> AbstractContextManager[object]:
        """See `Tracer`."""
        attributes: dict[str, AttributeValue] = {DB_OPERATION_NAME: operation, DATABASE: database}
        if index is not None:
            attributes[DB_COLLECTION_NAME] = index
        return self._span(f"{operation} {index or database}", attributes, kind=SpanKind.CLIENT)

    def headers(self) -> Mapping[str, str]:
        """See `Tracer`."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    def traceparent(self) -> str | None:
        """See `Tracer`."""
        return self.headers().get("traceparent")

    def ids(self) -> Mapping[str, str]:
        """See `Tracer`."""
        context = get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}

    def instrument(self, app: FastAPI) -> None:
        """See `Tracer`. The instrumentation's own metrics are off: Prometheus has them."""
        FastAPIInstrumentor.instrument_app(
            app,
            tracer_provider=self._provider,
            meter_provider=NoOpMeterProvider(),
            excluded_urls=PROBES,
            exclude_spans=["send", "receive"],
        )

    def close(self) -> None:
        """See `Tracer`."""
        self._provider.shutdown()

    @contextmanager
    def _span(
        self,
        name: str,
        attributes: Mapping[str, AttributeValue],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: str | None = None,
    ) -> Generator[CallSpan]:
        context = context_api.get_current()
        if parent is not None:
            context = self._propagator.extract({"traceparent": parent}, context)
        with self._tracer.start_as_current_span(
            name,
            context,
            kind,
            dict(attributes),
            record_exception=False,  # its message may hold what a span must not
            set_status_on_exception=False,
        ) as span:
            try:
                yield _OpenSpan(span)
            except CancelledError:
                span.set_attribute(CANCELLED, True)
                raise
            except BaseException as error:
                span.set_attribute(ERROR_TYPE, _error_type(error))
                span.set_status(StatusCode.ERROR)
                raise


class _OpenSpan:
    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def answered(
        self, *, model: str | None = None, finish_reason: str | None = None, usage: Usage | None = None
    ) -> None:
        """See `CallSpan`."""
        found: dict[str, AttributeValue | None] = {
            gen_ai.GEN_AI_RESPONSE_MODEL: model,
            gen_ai.GEN_AI_RESPONSE_FINISH_REASONS: None if finish_reason is None else (finish_reason,),
        }
        if usage is not None:
            found[gen_ai.GEN_AI_USAGE_INPUT_TOKENS] = usage.input_tokens
            found[gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS] = usage.output_tokens
            found[gen_ai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] = usage.cached_tokens
            found[gen_ai.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS] = usage.reasoning_tokens
        self._span.set_attributes({key: value for key, value in found.items() if value is not None})


def _error_type(error: BaseException) -> str:
    return error.error_class if isinstance(error, CallError) else type(error).__name__
