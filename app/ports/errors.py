"""The error tree of the inside. At every boundary a failure is permanent or temporary.

    OrchestratorError
    ├── CallError                 an effect outside the process failed (model, vector database, HTTP, action)
    │   ├── PermanentError        trying again cannot help
    │   └── TemporaryError        trying again may help, not before `retry_after` seconds
    ├── DefinitionInvalid         a workflow document has problems (every one of them is listed)
    ├── InputsInvalid             the inputs of a run do not fit the workflow's schema
    ├── TemplateFailed            a template or expression could not be rendered at run time
    └── StoreError
        ├── StoreUnavailable      the store cannot take writes now (disk full, lock lost)
        ├── Fenced                another writer appended to this run: the caller lost it
        └── AlreadyExists         a unique key is taken

Messages say what to do, name identifiers with `!r`, and never carry a secret, a stack or a path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.ports.problems import Problem
    from app.ports.steps import StepOutcome

ErrorClass = Literal[
    "rate_limit",
    "timeout",
    "server_error",
    "connection",
    "invalid_output",
    "authentication",
    "permission",
    "invalid_request",
    "not_found",
    "context_length",
    "content_filter",
    "too_large",
    "egress_denied",
    "unknown_provider",
    "template",
    "condition",
    "invalid_config",
    "outcome_unknown",
    "budget_exceeded",
    "unknown_price",
    "internal",
]

RETRYABLE_CLASSES: Final[frozenset[ErrorClass]] = frozenset(
    {"rate_limit", "timeout", "server_error", "connection", "invalid_output"}
)


class OrchestratorError(Exception):
    """Base of every error this package raises on purpose."""


class CallError(OrchestratorError):
    """An external call failed; `error_class` names how, `str(error)` says what to do."""

    def __init__(self, error_class: ErrorClass, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.error_class: ErrorClass = error_class
        self.status = status
        """HTTP status of the answer, where there was one."""
        self.billed: StepOutcome | None = None
        """What was used although it failed, where that is known: an answer came, and was of no use."""
        self.unsent = False
        """Whether the call was not made at all, so that nobody bills it."""


class PermanentError(CallError):
    """Trying again cannot help."""


class TemporaryError(CallError):
    """Trying again may help. `retry_after` is the callee's own floor for the delay, in seconds."""

    def __init__(
        self,
        error_class: ErrorClass,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(error_class, message, status=status)
        self.retry_after = retry_after


class DefinitionInvalid(OrchestratorError):
    """A workflow document cannot be accepted; `problems` lists every reason, in document order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"the workflow definition has {len(problems)} problem(s)")
        self.problems = tuple(problems)


class InputsInvalid(OrchestratorError):
    """Inputs do not fit the workflow's schema; pointers are relative to the inputs."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"the inputs have {len(problems)} problem(s)")
        self.problems = tuple(problems)


class TemplateFailed(OrchestratorError):
    """A template or expression failed while rendering: undefined name, limit exceeded, wrong type."""


class StoreError(OrchestratorError):
    """Base of what a store reports."""


class StoreUnavailable(StoreError):
    """The store cannot take writes at the moment; nothing of the refused write was stored."""


class Fenced(StoreError):
    """The expected seq is taken: another writer owns this run now. The caller must stop driving it."""


class AlreadyExists(StoreError):
    """A unique key (workflow version, idempotency key) is taken; nothing was stored."""
