"""Drives a run with recorded answers: the same core and the same templates, and nobody is called.

A driver of its own beside the runner, because here is nothing to be durable, to wait or to be told:
whatever is open is settled at once, in the order of the recording. Time passes in the events alone.
Transforms compute; models, vendors, people and other runs answer what they answered before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Final, NoReturn, assert_never

from pydantic import ValidationError

from app.core import commands as c
from app.core import events as e
from app.core.plan import Approval, Child, Wait
from app.core.scheduler import decide
from app.core.state import StepState, StepStatus
from app.core.transitions import accepts
from app.dsl.compiled import CompiledStep, CompiledWorkflow
from app.engines.attempts import AttemptLimits, as_failure, content_hash
from app.engines.children import CANCELLED
from app.engines.decisions import Decisions, Question
from app.engines.facts import Fact
from app.engines.history import BRINGS_OUTPUTS, STEP_STATUS_NAMES, History, new_history
from app.engines.identity import RunIdentity
from app.engines.pace import Pace
from app.engines.recorded_answers import RecordedChildren, compute
from app.engines.recording import RecordedStep, Recording
from app.engines.replayed import Replayed, error_of, failure_of
from app.engines.rundata import RunData
from app.ports.errors import CallError, TemplateFailed
from app.templating.renderer import Renderer

COMPUTED: Final = frozenset({"transform"})
"""Kinds that need nobody's answer."""
TIMEOUT_CLASS: Final = "timeout"
UNANSWERED: Final = e.Failure(error_class="not_found", message="the recording has no answer for this step")
_OPENS: Final = (e.AttemptStarted, e.ApprovalRequested)
_ENDS_STEP: Final = (*BRINGS_OUTPUTS, e.StepFailed, e.StepSkipped, e.AttemptCancelled)


class ReplayStuck(Exception):
    """The run waits for something that no recording can answer."""


@dataclass(slots=True)
class _Clock:
    """Stands still between two events."""

    at: float = 0.0
    machine: str = "replay"

    def now(self) -> float:
        return self.at

    def uptime(self) -> float:
        return self.at


async def replay(
    workflow: CompiledWorkflow, recording: Recording, inputs: Mapping[str, Any], renderer: Renderer
) -> Replayed:
    """Run a workflow on recorded answers. Raises `ReplayStuck`."""
    return await _Replay(workflow, recording, renderer).run(inputs)


@dataclass(slots=True)
class _Asked:
    """What steps were asked, by path."""

    configs: dict[str, Any] = field(default_factory=dict)
    unanswered: dict[str, None] = field(default_factory=dict)
    ended: dict[str, None] = field(default_factory=dict)


class _Replay:
    """One run."""

    def __init__(self, workflow: CompiledWorkflow, recording: Recording, renderer: Renderer) -> None:
        self._recorded = recording.steps
        self._order = {path: position for position, path in enumerate(recording.steps)}
        self._workflow = workflow
        self._renderer = renderer
        self._clock = _Clock()
        self._limits = AttemptLimits()
        self._run = RunIdentity(run_id=recording.run.id, tenant="", workflow=workflow.name, labels={})
        self._decisions = Decisions(renderer, self._clock, self._limits, RecordedChildren())
        self._history: History = new_history(recording.run.id, workflow.plan)
        self._data = RunData(workflow, self._history)
        self._open: list[tuple[int, int, str]] = []
        """Steps that wait for an outcome: place in the recording, order of their begin, path."""
        self._opened = 0
        self._block_timers: set[str] = set()
        self._silence: dict[str, str | None] = {}
        """What it means that nobody answers an approval."""
        self._asked = _Asked()

    async def run(self, inputs: Mapping[str, Any]) -> Replayed:
        """From the submission to the end."""
        state = self._history.state
        pace = Pace()
        self._append(Fact(event=e.RunSubmitted(at=self._clock.now()), data={"inputs": inputs}))
        self._append(Fact(event=e.RunStarted(at=self._clock.now(), timeout=None)))
        while not state.terminal:
            due = decide(state)
            if due:
                for fact in [await self._answer(command) for command in due]:
                    self._append(fact)
            elif self._open:
                await self._settle(heappop(self._open)[2])
            elif not self._block_times_out():
                self._stuck()
            await pace.keep()
        return self._replayed()

    def _stuck(self) -> NoReturn:
        waiting = [path for path, step in self._history.state.steps.items() if step.status not in _OVER]
        raise ReplayStuck(f"nothing answers {', '.join(map(repr, waiting[:5]))}: record the run again")

    def _append(self, fact: Fact | None) -> None:
        if fact is None or not accepts(self._history.state, fact.event):
            return
        event = fact.event
        self._history.apply(event, fact.data)
        path: str | None = getattr(event, "path", None)
        if isinstance(event, e.RunSubmitted):
            self._data.submitted(self._history.inputs)
        elif path is not None and isinstance(event, _OPENS):
            self._wait_for(path)
        elif path is not None and isinstance(event, _ENDS_STEP):
            self._data.ended(path)
            self._asked.ended[path] = None

    def _wait_for(self, path: str) -> None:
        self._opened += 1
        heappush(self._open, (self._order.get(path, len(self._order)), self._opened, path))

    # --- commands -------------------------------------------------------------------------------------

    async def _answer(self, command: c.Command) -> Fact | None:
        now, fact = self._clock.now(), None
        match command:
            case c.Record(event=event):
                fact = Fact(event=event)
            case c.StartAttempt(path=path, attempt=attempt):
                fact = Fact(event=e.AttemptStarted(path=path, attempt=attempt, at=now))
            case c.CancelAttempt(path=path, attempt=attempt):
                fact = Fact(event=e.AttemptCancelled(path=path, attempt=attempt, at=now))
            case c.CancelChild(path=path):
                fact = Fact(event=e.ChildEnded(path=path, failure=CANCELLED, at=now))
            case c.LaunchChild(path=path):
                self._wait_for(path)
            case c.StartTimer(timer=timer, due_at=due_at):
                self._timer(timer, due_at)
            case _:
                fact = await self._decided(command)
        return fact

    async def _decided(self, question: Question) -> Fact | None:
        if isinstance(question, c.EnterStep):
            control = self._history.state.steps[question.path].node.control
            if isinstance(control, Approval | Child):
                await self._note(question.path)
        fact = self._decisions.now(self._run, self._data, question)
        return fact or await self._decisions.later(self._run, self._data, question)

    async def _note(self, path: str) -> None:
        """Keep what a person is asked, and what another run is given."""
        if self._data.item_workflow(path) is not None:
            self._asked.configs[path] = self._data.item_inputs(path)
            return
        try:
            config = await self._renderer.render(self._data.step(path).config, self._data.names_of(path))
        except TemplateFailed:
            return  # the question about it fails in a moment
        self._asked.configs[path] = config

    def _timer(self, timer: c.Timer, due_at: float) -> None:
        match timer:
            case c.WaitTimer(path=path):
                self._clock.at = max(self._clock.at, due_at)
                self._wait_for(path)
            case c.ApprovalTimer(path=path, action=action):
                self._silence[path] = action
            case c.BlockTimer(path=path):
                self._block_timers.add(path)
            case c.AttemptTimer() | c.RetryTimer() | c.RunTimer():
                pass  # recorded outcomes come at once, and are final
            case _:
                assert_never(timer)

    # --- outcomes -------------------------------------------------------------------------------------

    async def _settle(self, path: str) -> None:
        """Bring what a step waits for, unless it does not wait any more."""
        state = self._history.state
        recorded = self._recorded.get(path)
        if recorded is not None and recorded.status == "cancelled" and self._block_times_out():
            return
        attempt = state.running.get(path)
        if attempt is not None:
            self._append(await self._attempt(path, attempt))
        elif state.steps[path].status is StepStatus.WAITING:
            self._append(self._outside(state.steps[path], recorded))

    def _block_times_out(self) -> bool:
        """End a block that ran out of time when it was recorded."""
        for path in sorted(self._block_timers):
            recorded = self._recorded.get(path)
            error = None if recorded is None else recorded.error
            timed_out = e.BlockTimedOut(path=path, at=self._clock.now())
            if error is not None and error.error_class == TIMEOUT_CLASS:
                self._block_timers.discard(path)
                if accepts(self._history.state, timed_out):
                    self._append(Fact(event=timed_out))
                    return True
        return False

    def _outside(self, step: StepState, recorded: RecordedStep | None) -> Fact:
        path, now = step.path, self._clock.now()
        if isinstance(step.node.control, Wait):
            return Fact(event=e.WaitOver(path=path, at=now), data={"outputs": {}})
        failure = failure_of(recorded)
        outputs = None if recorded is None else recorded.outputs
        if outputs is None and failure is None:
            self._asked.unanswered[path] = None
        if isinstance(step.node.control, Approval):
            return self._approval(path, outputs)
        waits = step.control is not None and step.control.child_open
        if outputs is not None and not waits:
            return Fact(event=e.ChildLaunched(path=path, at=now), data={"outputs": outputs})
        if outputs is not None:
            return Fact(event=e.ChildEnded(path=path, failure=None, at=now), data={"outputs": outputs})
        within = None if recorded is None or recorded.within is None else {"within": recorded.within}
        return Fact(event=e.ChildEnded(path=path, failure=failure or UNANSWERED, at=now), data=within)

    def _approval(self, path: str, outputs: Mapping[str, Any] | None) -> Fact:
        now, recorded = self._clock.now(), self._recorded.get(path)
        if outputs is not None and recorded is not None and not recorded.expired:
            action, by = str(outputs.get("action")), outputs.get("by")
            event = e.ApprovalAnswered(path=path, action=action, by=by, at=now)
            return Fact(event=event, data={"outputs": outputs})
        action_of_silence = self._silence.get(path)
        silent = {"action": action_of_silence, "data": None, "by": None}
        data = None if action_of_silence is None else {"outputs": silent}
        return Fact(event=e.ApprovalExpired(path=path, at=now), data=data)

    async def _attempt(self, path: str, attempt: int) -> Fact:
        step, names = self._data.step(path), self._data.names_of(path)
        try:
            config = await self._renderer.render(step.config, names)
            self._asked.configs[path] = config
            checked = step.kind.config_model.of_rendered(config)
            if step.type in COMPUTED:
                return self._succeeded(path, attempt, await compute(step, checked))
        except (CallError, TemplateFailed, ValidationError) as error:
            return self._failed(path, attempt, as_failure(error))
        recorded = self._recorded.get(path)
        failure = failure_of(recorded)
        if failure is None and recorded is not None and recorded.outputs is not None:
            return self._succeeded(path, attempt, recorded.outputs)
        if failure is None:
            self._asked.unanswered[path] = None
        return self._failed(path, attempt, failure or UNANSWERED)

    def _succeeded(self, path: str, attempt: int, outputs: Mapping[str, Any]) -> Fact:
        event = e.StepSucceeded(path=path, attempt=attempt, at=self._clock.now())
        return Fact(event=event, data={"outputs": outputs})

    def _failed(self, path: str, attempt: int, failure: e.Failure) -> Fact:
        return Fact(event=e.AttemptFailed(path=path, attempt=attempt, failure=failure, at=self._clock.now()))

    # --- the end --------------------------------------------------------------------------------------

    def _replayed(self) -> Replayed:
        history = self._history
        return Replayed(
            status=history.status,
            outputs=history.outputs,
            failure=history.failure,
            steps={
                path: self._step(path, self._data.step(path))
                for path in self._asked.ended
                if history.state.steps[path].status is not StepStatus.SKIPPED
            },
            unanswered=tuple(self._asked.unanswered),
        )

    def _step(self, path: str, step: CompiledStep) -> RecordedStep:
        """What is seen of a step this time; answers are those of the recording."""
        status = STEP_STATUS_NAMES[self._history.state.steps[path].status]
        shown = step.type not in COMPUTED and path in self._asked.configs
        config = self._asked.configs[path] if shown else None
        recorded = self._recorded.get(path)
        failure = self._history.state.steps[path].failure if status == "failed" else None
        error = None if failure is None else error_of(failure)
        if status == "completed" and recorded is not None:
            error = recorded.error  # it went on with its `on_error` value
        return RecordedStep.model_validate(
            {
                "type": step.type,
                "status": status,
                "hash": content_hash(step.type, config) if shown else None,
                "config": config,
                "outputs": None if recorded is None else recorded.outputs,
                "billing": None if recorded is None else recorded.billing,
                "error": error,
                "expired": recorded is not None and recorded.expired,
                "within": None if recorded is None else recorded.within,
            }
        )


_OVER: Final = frozenset({StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED})
