"""`llm-orchestrator run`: one document in this process, nothing stored but what its steps store.

The same engine as the service's, over the in-memory store. The table goes to stderr, the outputs to
stdout as JSON, so that the command can be piped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.bootstrap import Overrides, Service, build, redactor
from app.observability.logging import configure_logging
from app.services.idempotency import Answer
from app.services.principal import Principal
from app.services.runs import Accepted, RunRequest
from app.services.views import RunView, StepView
from app.settings import Settings
from app.stores.memory import MemoryStore
from app.stores.memory_lock import MemoryLock

REFRESH_SECONDS = 0.2
LOG_LEVEL = "error"
"""Failures are in the table; lower lines would cut through it."""
STYLES = {"completed": "green", "failed": "red", "skipped": "dim", "running": "cyan", "retrying": "yellow"}


def read_inputs(pairs: Sequence[str], whole: str | None) -> dict[str, Any]:
    """Inputs from `name=value` pairs and a JSON object. Raises `ValueError` with what to do."""
    inputs: dict[str, Any] = {}
    if whole is not None:
        try:
            given = orjson.loads(whole)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"--inputs is not JSON: {error}") from error
        if not isinstance(given, dict):
            raise ValueError("--inputs must be a JSON object")
        inputs.update(given)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"--input {pair!r} must be name=value")
        inputs[name] = _value(value)
    return inputs


def _value(text: str) -> Any:
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"the --input file {text[1:]!r} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"the --input file {text[1:]!r} is not UTF-8 text") from error
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def local_service(settings: Settings) -> Service:
    """A service that keeps its runs in memory. Raises `ValueError` for settings that cannot work."""
    return build(settings, Overrides(store=MemoryStore(), lock=MemoryLock()))


async def run_document(settings: Settings, service: Service, source: bytes, inputs: dict[str, Any]) -> bool:
    """Run to the end and close the service; True if the run completed.

    Raises `DefinitionInvalid`, `InputsInvalid`, and `CallError` or `StoreError` if the service cannot start.
    """
    writer = configure_logging(redaction=redactor(settings), level=LOG_LEVEL, format="console")
    try:
        document = dict(service.catalog.compile(source).document)
        await service.start()
        view = await _watch(service, RunRequest(workflow=document, inputs=inputs))
    finally:
        await service.close()
        await asyncio.to_thread(writer.close)
    return _report(view)


async def _watch(service: Service, request: RunRequest) -> RunView:
    principal = Principal(tenant="default", subject="command line", roles=frozenset({"admin"}))
    runs = service.api.runs
    accepted: Accepted = await runs.submit(
        principal, request, lambda run: Answer(status_code=202, body=b"", headers={"Location": run.id})
    )
    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            ended = await runs.wait(accepted, seconds=REFRESH_SECONDS)
            view = ended or await runs.get(principal, accepted.run.id)
            live.update(run_table(view), refresh=True)
            if ended is not None:
                break
    if not console.is_terminal:
        console.print()  # only on a terminal does the table end its last line
    return ended


def run_table(view: RunView) -> Table:
    """The steps of a run as a table."""
    table = Table(title=f"{view.summary.workflow} {view.summary.version}: {view.summary.status}")
    for column in ("step", "type", "status", "attempt", "seconds", "tokens"):
        table.add_column(column, justify="right" if column in {"attempt", "seconds", "tokens"} else "left")
    for step in view.steps:
        table.add_row(
            Text(step.path),
            step.type,
            Text(step.status, style=STYLES.get(step.status, "")),
            str(step.attempt or ""),
            _seconds(step),
            _tokens(step),
        )
    return table


def _seconds(step: StepView) -> str:
    if step.started_at is None:
        return ""
    return f"{(step.finished_at or time.time()) - step.started_at:.2f}"


def _tokens(step: StepView) -> str:
    if not step.billing:
        return ""
    return f"{step.billing.get('input_tokens') or 0} + {step.billing.get('output_tokens') or 0}"


def _report(view: RunView) -> bool:
    if view.summary.status == "completed":
        print(orjson.dumps(view.outputs, option=orjson.OPT_INDENT_2).decode())  # noqa: T201  the result
        return True
    failure = view.failure
    reason = f"{view.failed_path}: {failure.error_class}: {failure.message}" if failure else ""
    Console(stderr=True).print(Text(f"run {view.summary.status}: {reason}"), soft_wrap=True)
    return False
