"""`llm-orchestrator run`: one document in this process, nothing stored but what its steps store.

The same engine as the service's, over the in-memory store. The table goes to stderr, the outputs to
stdout as JSON, so that the command can be piped.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.live import Live
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from app.bootstrap import Overrides, Service, build
from app.configuration import redactor
from app.dsl.loader import load_document
from app.observability.logging import configure_logging
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.problems import Problem
from app.services.approvals import Action
from app.services.errors import AnswerRejected
from app.services.idempotency import Answer
from app.services.principal import Principal
from app.services.runs import Accepted, RunRequest
from app.services.views import RunView, StepView, WorkflowView
from app.settings import EMBEDDED_DATABASE, Settings
from app.steps.kind import is_template
from app.stores.memory import MemoryStore
from app.stores.memory_lock import MemoryLock
from app.stores.memory_peers import MemoryPeers

REFRESH_SECONDS = 0.2
MOST_APPROVALS = 100
PRINCIPAL = Principal(tenant="default", subject="command line", roles=frozenset({"admin"}))
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


def stores_vectors(source: bytes) -> bool:
    """Whether a document names the embedded vector database, or may at run time."""
    try:
        document = load_document(source).value
    except DefinitionInvalid:
        return False  # it is refused in a moment, with every problem
    return any(name == EMBEDDED_DATABASE or is_template(name) for name in _databases(document))


def _databases(value: Any) -> Iterator[Any]:
    if isinstance(value, dict) and "database" in value:
        yield value["database"]
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _databases(item)


def local_service(settings: Settings) -> Service:
    """A service that keeps its runs in memory. Raises `ValueError` for settings that cannot work."""
    return build(settings, Overrides(store=MemoryStore(), lock=MemoryLock(), peers=MemoryPeers()))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRun:
    """What to run, and what it needs of its surroundings."""

    source: bytes
    inputs: dict[str, Any]
    others: Sequence[bytes] = ()
    """Documents that its `workflow` steps call."""
    answer: Action | None = None
    """How every approval is answered; None: by whoever sits at the terminal."""


async def run_document(settings: Settings, service: Service, run: LocalRun) -> bool:
    """Run to the end and close the service; True if the run completed.

    Raises `DefinitionInvalid`, `InputsInvalid`, and `CallError` or `StoreError` if the service cannot start.
    """
    writer = configure_logging(redaction=redactor(settings), level=LOG_LEVEL, format="console")
    try:
        document = dict(service.catalog.compile(run.source).document)
        await service.start()
        for other in run.others:
            await service.api.workflows.register(PRINCIPAL, other, "auto", _registered)
        others = [service.catalog.compile(other) for other in run.others]
        for advice in _advice(document, {other.name: other.document for other in others}, run.answer):
            print(f"llm-orchestrator: warning: {advice}", file=sys.stderr)  # noqa: T201  beside the table
        view = await _watch(service, RunRequest(workflow=document, inputs=run.inputs), run.answer)
    except InputsInvalid as error:
        raise InputsInvalid([advised(problem, run.inputs) for problem in error.problems]) from None
    finally:
        await service.close()
        await asyncio.to_thread(writer.close)
    return _report(view)


def _advice(
    document: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]], answer: Action | None
) -> Iterator[str]:
    """What the command should be told as well, said before any step has cost anything."""
    steps = [step for one in (document, *others.values()) for step in _steps(one)]
    called = {step.get("workflow"): step["id"] for step in steps if step["type"] == "workflow"}
    for name, step in called.items():
        if isinstance(name, str) and name not in others and not is_template(name):
            yield f"step {step!r} calls workflow {name!r}; pass its document with --with FILE"
    asking = [step["id"] for step in steps if step["type"] == "approval"]
    if asking and answer is None and not sys.stdin.isatty():
        yield f"step {asking[0]!r} waits for an approval, and nobody is here; pass --approve or --reject"


def _steps(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every step of a compiled document, at any depth."""
    if isinstance(value, dict) and isinstance(value.get("type"), str) and "id" in value:
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _steps(item)


def advised(problem: Problem, inputs: Mapping[str, Any]) -> Problem:
    """A problem of inputs, for a shell: options to add, and whoever writes who=5 may mean the text "5"."""
    missing = re.fullmatch(r"add '([^']+)'", problem.hint or "")
    if missing and not problem.pointer:
        return replace(problem, hint=f"add --input {missing[1]}=…")
    name = problem.pointer[1:]
    value = inputs.get(name)
    if problem.hint or '"string"' not in problem.detail or not isinstance(value, int | float | None):
        return problem
    written = orjson.dumps(value).decode()
    return replace(problem, hint=f"to pass it as text, write --input '{name}=\"{written}\"'")


def _registered(warnings: Sequence[Problem], view: WorkflowView, created: bool) -> Answer:
    return Answer(status_code=201, body=b"")


async def _watch(service: Service, request: RunRequest, answer: Action | None) -> RunView:
    runs = service.api.runs
    accepted: Accepted = await runs.submit(
        PRINCIPAL, request, lambda run: Answer(status_code=202, body=b"", headers={"Location": run.id})
    )
    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            ended = await runs.wait(PRINCIPAL, accepted, seconds=REFRESH_SECONDS)
            view = ended or await runs.get(PRINCIPAL, accepted.run_id)
            live.update(run_table(view), refresh=True)
            if ended is not None:
                break
            if view.summary.status == "waiting":
                await _answer(service, view.summary.id, answer, live)
    if not console.is_terminal:
        console.print()  # only on a terminal does the table end its last line
    return ended


async def _answer(service: Service, run_id: str, answer: Action | None, live: Live) -> None:
    """Answer what a run waits for: as the command says, or as somebody at the terminal does."""
    approvals = service.api.approvals
    page = await approvals.list(
        PRINCIPAL, statuses=frozenset({"pending"}), run_id=run_id, limit=MOST_APPROVALS, cursor=None
    )
    for asked in page.items:
        if answer is None and not sys.stdin.isatty():
            live.console.print(
                f"{asked.path} asks: {asked.message}\nnobody is here to answer; run it again with "
                "--approve or --reject",
                markup=False,
            )
            await service.api.runs.abandon(PRINCIPAL, run_id, reason="nobody was here to answer it")
            return
        action = answer
        if action is None:
            live.stop()
            question = Text(f"{asked.path} asks: {asked.message} Approve?")
            approved = await asyncio.to_thread(Confirm.ask, question, console=live.console)
            action = "approve" if approved else "reject"
            live.start()
        try:
            await approvals.answer(
                PRINCIPAL,
                asked.id,
                action=action,
                data=None if asked.form is None or action == "reject" else {},
                receipt=lambda _: Answer(status_code=200, body=b""),
            )
        except AnswerRejected as error:
            live.console.print(
                f"{asked.path} asks for more than a yes: {error}; "
                "run the workflow on a service, and answer there"
            )
            await service.api.runs.abandon(PRINCIPAL, run_id, reason="its form was not filled in")
            return


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
    where = f"{view.failed_path}: " if view.failed_path else ""
    reason = f"{where}{failure.error_class}: {failure.message}" if failure else view.cancel_reason
    told = f"run {view.summary.status}: {reason}" if reason else f"run {view.summary.status}"
    Console(stderr=True).print(Text(told), soft_wrap=True)
    return False
