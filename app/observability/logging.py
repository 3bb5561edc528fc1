"""Logs: one JSON object a line (or coloured text for a terminal), from our code and from libraries alike.

Every line carries `timestamp`, `level`, `logger`, `event`, whatever is bound to the context
(`app.observability.log_context`: `run_id`, `step`, `attempt`, `request_id`), and `trace_id` and
`span_id` where there is a trace. Logging never blocks and never raises: lines are written by
`app.observability.log_writer`, and one that cannot be rendered is replaced by a line that says so.
Secrets are removed last, so that nothing behind this module sees them.

What does not belong here: deciding what is secret (`app.security.redaction`). Prompts, answers and inputs
are never logged.
"""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.observability.log_context import add_names
from app.observability.log_writer import LogWriter, TextSink
from app.observability.redaction import Redaction

Format = Literal["json", "console"]
TraceIds = Callable[[], Mapping[str, str]]
"""`{"trace_id": …, "span_id": …}` of the current span, or nothing."""

OWN_HANDLERS: Final = ("uvicorn", "uvicorn.error", "uvicorn.access")
"""Loggers of libraries that would write past ours."""
CHATTY: Final = ("httpx", "httpcore", "aiohttp.access", "asyncio", "opentelemetry")
"""Loggers that tell of every request, with its URL; only their warnings are of interest."""


def configure_logging(
    *,
    redaction: Redaction,
    level: str = "INFO",
    format: Format = "json",
    stream: TextSink | None = None,
    trace_ids: TraceIds | None = None,
    access_log: bool = False,
) -> LogWriter:
    """Send every log line of the process to `stream` (stderr if None); the caller closes the writer.

    A later call replaces an earlier one. Raises `ValueError` for a level that does not exist.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} does not exist: use DEBUG, INFO, WARNING, ERROR or CRITICAL")
    line = _Line(redaction, format, colours=stream is None and sys.stderr.isatty())
    writer = LogWriter(stream or sys.stderr, dropped_line=line.dropped)
    atexit.register(writer.close)
    shared = _shared_processors(trace_ids or dict, tracebacks=format == "json")
    structlog.configure(
        processors=[*shared, line],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *names: _Output(writer, *names),
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(_Bridge(writer, shared, line), number, access_log=access_log)
    return writer


class _Output:
    """What structlog calls with a finished line."""

    __slots__ = ("_writer", "name")

    def __init__(self, writer: LogWriter, name: str = "app") -> None:
        self._writer = writer
        self.name = name

    def msg(self, line: str) -> None:
        self._writer.write(line)

    debug = info = warning = error = critical = exception = msg


class _Line:
    """Redacts and renders an event; the last processor."""

    def __init__(self, redaction: Redaction, format: Format, *, colours: bool) -> None:
        self._redaction = redaction
        self._console = (
            structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
            if format == "console"
            else None
        )

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        try:
            return self._redaction.text(self._render(logger, method, event))
        except Exception as error:  # noqa: BLE001  a line that cannot be written must not fail its caller
            lost = {
                "level": method,
                "event": "a log line could not be rendered",
                "error": type(error).__name__,
            }
            return orjson.dumps(lost).decode()

    def dropped(self, count: int) -> str:
        """The line that stands for lines that were lost."""
        return self(None, "warning", {"level": "warning", "event": "log lines were dropped", "count": count})

    def _render(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        if self._console is not None:
            trace = event.pop("exc_info", None)
            clean = self._redaction.data(dict(event))
            return self._console(logger, method, {**clean, "exc_info": trace} if trace else clean)
        return orjson.dumps(
            self._redaction.keyed(event), default=_describe, option=orjson.OPT_NON_STR_KEYS
        ).decode()


class _Bridge(logging.Handler):
    """Brings the records of standard logging into the same lines."""

    def __init__(self, writer: LogWriter, shared: Sequence[Processor], line: _Line) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, line],
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record))
        except Exception as error:  # noqa: BLE001  a library's broken log call must not fail what it reports on
            name = type(error).__name__
            self._writer.write(
                f'{{"level":"warning","event":"a log line could not be made","error":"{name}"}}'
            )


def _shared_processors(trace_ids: TraceIds, *, tracebacks: bool) -> list[Processor]:
    def add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.update(trace_ids())
        return event

    processors: list[Processor] = [
        add_names,
        structlog.processors.add_log_level,
        _add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        add_trace,
    ]
    if tracebacks:
        processors.append(structlog.processors.format_exc_info)
    return processors


def _add_logger_name(logger: WrappedLogger, _: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    event["logger"] = logger.name if record is None else record.name
    return event


def _describe(value: object) -> str:
    return f"<{type(value).__name__}>" if isinstance(value, bytes | bytearray) else str(value)


def _route_standard_logging(handler: logging.Handler, level: int, *, access_log: bool) -> None:
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in OWN_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    if not access_log:
        logging.getLogger("uvicorn.access").setLevel(max(level, logging.WARNING))
