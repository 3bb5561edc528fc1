"""A finished run as a recording, for replaying its workflow without calling anybody.

Answers are taken from the journal and redacted; everything else (prompts, what transforms and blocks made
of the answers, the outputs) is not read but made anew by replaying the workflow on the redacted answers. So
what was redacted is nowhere in the recording, however often it was passed on. What does not belong here:
how a recording is replayed, how two of them differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.core import events as e
from app.dsl.compiled import CompiledWorkflow
from app.engines.codec import decode
from app.engines.history import BRINGS_OUTPUTS
from app.engines.pace import Pace
from app.engines.recording import RecordedError, RecordedRun, RecordedStep, Recording, write_recording
from app.engines.recovery import StoredRun
from app.engines.replayed import Replayed, error_of, renewed
from app.engines.replaying import COMPUTED, ReplayStuck, replay
from app.ports.errors import InputsInvalid
from app.ports.problems import Problem
from app.ports.runs import TERMINAL_STATUSES, JournalRow, RunRow, Store
from app.ports.turns import computed
from app.security.redaction import Redactor
from app.services.errors import (
    FixtureRejected,
    FixtureTooLarge,
    RunNotEnded,
    RunNotFound,
    RunNotReplayable,
)
from app.services.principal import Principal
from app.services.redactions import cleaned, redact_places
from app.services.runs import RunService
from app.services.timestamps import rfc3339_or_none
from app.steps.item_run import ItemRunKind
from app.steps.registry import STEP_KINDS
from app.templating.renderer import Renderer

MOST_BYTES: Final = 8 * 1024 * 1024
PAGE_ROWS: Final = 1000
REPLAYABLE: Final = frozenset({"completed", "failed"})
ANSWERED: Final = (STEP_KINDS.keys() - COMPUTED) | {"approval", "workflow", ItemRunKind.name}
"""Kinds whose outputs come from outside; those of the others follow."""
_ENDS: Final = (*BRINGS_OUTPUTS, e.StepFailed, e.AttemptCancelled)


class FixtureService:
    """Recordings of the runs of a process."""

    def __init__(self, *, store: Store, runs: RunService, renderer: Renderer, redactor: Redactor) -> None:
        self._store = store
        self._runs = runs
        self._renderer = renderer
        self._redactor = redactor

    async def export(self, principal: Principal, run_id: str, *, redact: Sequence[str] = ()) -> bytes:
        """The recording as JSON. `redact` are JSON Pointers to inputs and answers.

        Raises `RunNotFound`, `RunNotEnded`, `RunNotReplayable`, `FixtureRejected`, `FixtureTooLarge`.
        """
        row = await self._ended(principal, run_id)
        rows = await self._rows(run_id)
        _, stored = await self._runs.load(principal, run_id)
        if stored.workflow.item is not None:
            raise RunNotReplayable(
                f"run {run_id!r} is that of an item of the map {stored.workflow.item.map!r}; record run "
                f"{row.parent_run_id!r}, which it belongs to"
            )
        answers = await _answers(stored.workflow, stored, rows)
        draft = await computed(self._draft, row, stored, answers)
        recording = await computed(redact_places, draft, redact)
        replayed = await self._replayed(stored, recording, redacted=bool(redact))
        made = renewed(recording, replayed, recording.definition)
        text = await computed(lambda: write_recording(self._clean(made)))
        if len(text) > MOST_BYTES:
            raise _too_large(run_id)
        return text

    async def _rows(self, run_id: str) -> Sequence[JournalRow]:
        """The journal of an ended run. Reads no more of it than fits into a recording."""
        rows: list[JournalRow] = []
        room = MOST_BYTES
        while page := await self._store.journal.read(
            run_id, after=len(rows), limit=PAGE_ROWS, max_bytes=room
        ):
            rows += page
            room -= sum(len(row.payload) for row in page)
            if room < 0:
                raise _too_large(run_id)
        return rows

    async def _ended(self, principal: Principal, run_id: str) -> RunRow:
        row = await self._runs.summary(principal, run_id)
        if row is None:
            raise RunNotFound(run_id)
        if row.status not in TERMINAL_STATUSES:
            raise RunNotEnded(f"run {run_id!r} is {row.status}; wait for its end, then ask again")
        if row.status not in REPLAYABLE:
            raise RunNotReplayable(
                f"run {run_id!r} is {row.status}: somebody or the clock ended it, which a replay cannot "
                "repeat; record a run that completed or failed"
            )
        return row

    def _draft(self, row: RunRow, stored: StoredRun, answers: Mapping[str, RecordedStep]) -> Recording:
        history = stored.history
        run = RecordedRun.model_validate(
            {
                "id": row.id,
                "workflow": row.workflow,
                "version": row.version,
                "status": history.status,
                "finished_at": rfc3339_or_none(history.ended_at),
            }
        )
        return Recording(
            run=run,
            definition=cleaned(stored.workflow.document, self._redactor),
            inputs=cleaned(history.inputs, self._redactor),
            steps={
                path: step.model_copy(update={"outputs": cleaned(step.outputs, self._redactor)})
                for path, step in answers.items()
            },
        )

    async def _replayed(self, stored: StoredRun, recording: Recording, *, redacted: bool) -> Replayed:
        """What the workflow makes of the redacted answers. Raises `FixtureRejected` if it takes another
        course on them."""
        hint = "redact less: something decides by what is redacted" if redacted else None
        try:
            inputs = stored.workflow.validate_inputs(recording.inputs)
            replayed = await replay(stored.workflow, recording, inputs, self._renderer)
        except InputsInvalid as error:
            raise _rejected("the redacted inputs do not fit the workflow", hint, error.problems) from error
        except ReplayStuck as error:
            raise _rejected(f"the run cannot be replayed: {error}", hint) from error
        if replayed.unanswered or replayed.status != stored.history.status:
            where = f" at step {replayed.unanswered[0]!r}" if replayed.unanswered else ""
            raise _rejected(f"replayed on the redacted answers the run takes another course{where}", hint)
        return replayed

    def _clean(self, recording: Recording) -> Recording:
        """The last net: what was rendered may hold what no answer held, and failures repeat anything."""
        run = recording.run.model_copy(
            update={
                "outputs": cleaned(recording.run.outputs, self._redactor),
                "error": self._clean_error(recording.run.error),
            }
        )
        steps = {
            path: step.model_copy(
                update={
                    "config": cleaned(step.config, self._redactor),
                    "error": self._clean_error(step.error),
                }
            )
            for path, step in recording.steps.items()
        }
        return recording.model_copy(update={"run": run, "steps": steps})

    def _clean_error(self, error: RecordedError | None) -> RecordedError | None:
        return error and error.model_copy(update={"message": self._redactor.text(error.message)})


async def _answers(
    workflow: CompiledWorkflow, stored: StoredRun, rows: Sequence[JournalRow]
) -> dict[str, RecordedStep]:
    """Every step that ended, by path, in the order of the ends, with what came from outside."""
    pace = Pace()
    found: dict[str, RecordedStep] = {}
    for row in rows:
        event, data = decode(row)
        path: str | None = getattr(event, "path", None)
        if path is not None and isinstance(event, _ENDS):
            step = workflow.steps[stored.history.state.steps[path].node.key]
            found.pop(path, None)
            within = stored.history.steps[path].within
            found[path] = _recorded(step.type, event, data or {}, within)
        await pace.keep()
    return found


def _recorded(kind: str, event: e.Event, data: Mapping[str, Any], within: str | None) -> RecordedStep:
    failure: e.Failure | None = getattr(event, "failure", None)
    failed = isinstance(event, e.StepFailed)
    cancelled = isinstance(event, e.AttemptCancelled)
    answered = kind in ANSWERED and failure is None and not cancelled
    return RecordedStep(
        type=kind,
        status="failed" if failed else "cancelled" if cancelled else "completed",
        outputs=data.get("outputs") if answered else None,
        billing=data.get("billing"),
        error=None if failure is None else error_of(failure),
        expired=isinstance(event, e.ApprovalExpired),
        within=within,
    )


def _too_large(run_id: str) -> FixtureTooLarge:
    return FixtureTooLarge(
        f"a recording of run {run_id!r} would take more than {MOST_BYTES:,} bytes; record a run with smaller "
        "inputs"
    )


def _rejected(detail: str, hint: str | None, problems: Sequence[Problem] = ()) -> FixtureRejected:
    return FixtureRejected(f"{detail}; {hint}" if hint else detail, problems=problems)
