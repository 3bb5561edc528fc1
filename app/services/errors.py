"""What a use case can refuse, each with the status, code and title that callers see.

    ServiceError
    ├── MalformedRequest          400  a body, cursor or header cannot be read
    ├── PermissionDenied          403  the caller's roles do not allow it
    ├── NotFound                  404  RunNotFound, StepNotFound, EventNotFound, WorkflowNotFound,
    │                                  ApprovalNotFound, ScheduleNotFound, WebhookNotFound,
    │                                  DeliveryNotFound
    ├── Conflict                  409  RunNotActive, VersionTaken, WorkflowInUse, IdempotencyKeyInUse,
    │                                  RunNotEnded, RunHasCompleted, RunStateConflict, ApprovalAnswered,
    │                                  ScheduleNameTaken, ScheduleBusy, WebhookDisabled, WebhookOfRun,
    │                                  WebhookBusy, TooManyWebhooks
    ├── ApprovalExpired           410  nobody waits for the answer any more
    ├── VersionMismatch           412  the `If-Match` condition does not hold
    ├── Unprocessable             422  DefinitionRejected, InputsRejected, IdempotencyKeyReused,
    │                                  AnswerRejected, UnknownStep, ScheduleRejected, FilterRejected,
    │                                  WebhookRejected
    ├── TooManyRuns               429  too many runs wait
    ├── Unreadable                500  RunUnreadable, DefinitionUnreadable
    └── Unavailable               503  ShuttingDown, NotExecuting, StorageUnavailable, CancellationPending

`translate` is the one place where errors of the inside become these. Messages say what to do and name
identifiers with `!r`. Those of webhooks are in `webhook_errors`. What does not belong here: how an error
is written to the wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from app.engines.engine import (
    CancelPending,
    Draining,
    HandedOver,
    NotPossible,
    Overloaded,
    RunEnded,
    StandingBy,
)
from app.engines.recovery import UnreadableRun
from app.ports.errors import (
    DefinitionInvalid,
    InputsInvalid,
    OrchestratorError,
    StoreUnavailable,
)
from app.ports.problems import Problem
from app.services.definitions import UnreadableDefinition


class ServiceError(OrchestratorError):
    """Base of the tree. `problems` lists what to mend, `retry_after` (seconds) when to come back."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self, detail: str, *, problems: Sequence[Problem] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(detail)
        self.problems = tuple(problems)
        self.retry_after = retry_after


class MalformedRequest(ServiceError):
    """Something of the request cannot be read."""

    status = 400
    code = "malformed_request"
    title = "The request cannot be read"


class InvalidCursor(MalformedRequest):
    """A cursor that this list did not give out, or not for these filters."""

    code = "invalid_cursor"
    title = "The cursor does not belong to this list"


class PermissionDenied(ServiceError):
    """The caller's roles do not allow it."""

    status = 403
    code = "permission_denied"
    title = "Not allowed"


class NotFound(ServiceError):
    """It does not exist, or not for this caller."""

    status = 404
    code = "not_found"
    title = "Not found"


class RunNotFound(NotFound):
    """No such run in the caller's tenant."""

    code = "run_not_found"
    title = "Run not found"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {run_id!r}; list the runs to find its id")


class StepNotFound(NotFound):
    """The run has no such step and cannot come to have it."""

    code = "step_not_found"
    title = "Step not found"

    def __init__(self, run_id: str, path: str, *, hint: str | None = None) -> None:
        super().__init__(f"run {run_id!r} has no step {path!r}; {hint or 'read the run to see its steps'}")


class EventNotFound(NotFound):
    """The run has not come that far."""

    code = "event_not_found"
    title = "Event not found"

    def __init__(self, run_id: str, seq: int, last: int) -> None:
        super().__init__(f"run {run_id!r} has no event {seq}; its latest one is {last}")


class WorkflowNotFound(NotFound):
    """No such workflow or version in the caller's tenant."""

    code = "workflow_not_found"
    title = "Workflow not found"

    def __init__(self, name: str, version: str | None = None, *, hint: str | None = None) -> None:
        what = f"workflow {name!r}" if version is None else f"version {version!r} of workflow {name!r}"
        super().__init__(f"{what} is not registered; {hint or 'register it, or list the workflows'}")


class ScheduleNotFound(NotFound):
    """No such schedule in the caller's tenant."""

    code = "schedule_not_found"
    title = "Schedule not found"

    def __init__(self, schedule_id: str) -> None:
        super().__init__(f"there is no schedule {schedule_id!r}; list the schedules to find its id")


class ApprovalNotFound(NotFound):
    """No such approval in the caller's tenant."""

    code = "approval_not_found"
    title = "Approval not found"

    def __init__(self, approval_id: str) -> None:
        super().__init__(f"there is no approval {approval_id!r}; list the approvals to find its id")


class ApprovalExpired(ServiceError):
    """Its time is over, or its run went on without it."""

    status = 410
    code = "approval_expired"
    title = "The approval waits for no answer any more"


class Conflict(ServiceError):
    """The present state does not allow it."""

    status = 409
    code = "conflict"
    title = "Conflict with the present state"


class RunNotActive(Conflict):
    """The run has ended or is ending."""

    code = "run_not_active"
    title = "The run has ended"


class RunNotEnded(Conflict):
    """The run is under way, so it cannot be repeated yet."""

    code = "run_not_ended"
    title = "The run has not ended"


class RunHasCompleted(Conflict):
    """The run completed: there is nothing in it to try again."""

    code = "run_completed"
    title = "The run has completed"


class RunNotReplayable(Conflict):
    """The run was ended from outside, so that a replay cannot come to the same end."""

    code = "run_not_replayable"
    title = "The run cannot be replayed"


class RunStateConflict(Conflict):
    """The run is in no state for what was asked of it."""

    code = "run_state_conflict"
    title = "The run is in no state for this"


class ApprovalAnswered(Conflict):
    """Somebody answered before."""

    code = "approval_answered"
    title = "The approval was answered already"


class VersionTaken(Conflict):
    """That version exists with another content."""

    code = "version_taken"
    title = "The version exists"


class WorkflowInUse(Conflict):
    """Runs of the workflow are active."""

    code = "workflow_in_use"
    title = "The workflow has active runs"


class ScheduleNameTaken(Conflict):
    """Another schedule has that name."""

    code = "schedule_name_taken"
    title = "The name is taken"


class ScheduleBusy(Conflict):
    """The schedule was changed again and again while the request tried to."""

    code = "schedule_busy"
    title = "The schedule keeps changing"


class IdempotencyKeyInUse(Conflict):
    """The first request under the key has not been answered yet."""

    code = "idempotency_key_in_use"
    title = "The first request under this key is in flight"


class VersionMismatch(ServiceError):
    """The `If-Match` condition does not hold."""

    status = 412
    code = "version_mismatch"
    title = "The resource has changed"


class Unprocessable(ServiceError):
    """It was understood and cannot be accepted as it is."""

    status = 422
    code = "unprocessable"
    title = "The request cannot be accepted"


class DefinitionRejected(Unprocessable):
    """The workflow definition has problems; every one of them is listed."""

    code = "definition_invalid"
    title = "The workflow definition is not valid"


class InputsRejected(Unprocessable):
    """The inputs do not fit the workflow's schema."""

    code = "inputs_invalid"
    title = "The inputs do not fit the workflow"


class AnswerRejected(Unprocessable):
    """The answer does not fit the approval's form."""

    code = "answer_invalid"
    title = "The answer does not fit the form"


class ScheduleRejected(Unprocessable):
    """A schedule cannot be kept as it is; what to mend is listed."""

    code = "schedule_invalid"
    title = "The schedule is not valid"


class FixtureRejected(Unprocessable):
    """No recording can be made of the run in this way."""

    code = "fixture_invalid"
    title = "No recording can be made in this way"


class FixtureTooLarge(Unprocessable):
    """A recording of the run would be larger than recordings may be."""

    code = "fixture_too_large"
    title = "The recording would be too large"


class FilterRejected(Unprocessable):
    """A filter that names every run, or only runs for which it is impossible."""

    code = "filter_invalid"
    title = "The filter cannot be used for this"


class UnknownStep(Unprocessable):
    """A step that the workflow does not have."""

    code = "unknown_step"
    title = "The workflow has no such step"


class IdempotencyKeyReused(Unprocessable):
    """The key was used for another request."""

    code = "idempotency_key_reused"
    title = "The idempotency key was used for another request"


class TooManyRuns(ServiceError):
    """Too many runs wait already."""

    status = 429
    code = "too_many_runs"
    title = "Too many runs are waiting"


class Unreadable(ServiceError):
    """What is stored cannot be read: a fault of the service, told without its reason."""

    status = 500
    code = "unreadable"
    title = "What is stored cannot be read"


class RunUnreadable(Unreadable):
    """A stored run cannot be read."""

    code = "run_unreadable"
    title = "The stored run cannot be read"


class DefinitionUnreadable(Unreadable):
    """A stored workflow definition cannot be read."""

    code = "definition_unreadable"
    title = "The stored workflow definition cannot be read"


class Unavailable(ServiceError):
    """Not now."""

    status = 503
    code = "unavailable"
    title = "The service cannot do this now"


class ShuttingDown(Unavailable):
    """The process is shutting down."""

    code = "draining"
    title = "The service is shutting down"


class NotExecuting(Unavailable):
    """Another process executes."""

    code = "standing_by"
    title = "This process stands by"


class StorageUnavailable(Unavailable):
    """The store takes no writes."""

    code = "storage_unavailable"
    title = "The store cannot take writes now"


class CancellationPending(Unavailable):
    """What was asked of a run is kept, and has not happened yet."""

    code = "cancel_pending"
    title = "The request has not taken effect yet"


RETRY_SECONDS = 5
"""When to come back to a service that drains or whose store is full."""


def translate(error: OrchestratorError) -> ServiceError | None:
    """The refusal that an error of the inside amounts to; None: it is a fault of the service itself."""
    refusal: ServiceError | None = None
    match error:
        case ServiceError():
            refusal = error
        case DefinitionInvalid() | InputsInvalid():
            refusal = rejection(error)
        case RunEnded():
            refusal = RunNotActive(str(error))
        case NotPossible():
            refusal = RunStateConflict(str(error))
        case Overloaded():
            refusal = TooManyRuns(str(error), retry_after=error.retry_after)
        case Draining() | HandedOver():
            refusal = ShuttingDown(str(error), retry_after=RETRY_SECONDS)
        case StandingBy():
            refusal = NotExecuting(str(error), retry_after=RETRY_SECONDS)
        case CancelPending():
            refusal = CancellationPending(str(error), retry_after=RETRY_SECONDS)
        case UnreadableRun():
            refusal = RunUnreadable(
                "this version of the service cannot read what is stored of the run; "
                "report the request_id to its operator"
            )
        case UnreadableDefinition():
            refusal = DefinitionUnreadable(
                "this version of the service cannot read the stored definition; register it again under "
                "another version, or report the request_id to its operator"
            )
        case StoreUnavailable():
            refusal = StorageUnavailable(
                "the store cannot take writes at the moment; nothing was stored, try again later",
                retry_after=RETRY_SECONDS,
            )
    return refusal


def rejection(error: DefinitionInvalid | InputsInvalid) -> Unprocessable:
    """What is wrong with a definition or with inputs."""
    if isinstance(error, DefinitionInvalid):
        return DefinitionRejected(_count(error.problems, "definition"), problems=error.problems)
    return InputsRejected(_count(error.problems, "inputs"), problems=error.problems)


def _count(problems: Sequence[Problem], subject: str) -> str:
    if len(problems) == 1:
        return f"the {subject} cannot be accepted: {problems[0].detail}"
    return f"the {subject} cannot be accepted for {len(problems)} reasons; each is listed under errors"
