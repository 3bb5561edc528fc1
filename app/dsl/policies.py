"""Which retry, timeout and repetition rules hold for a step: its own, the document's, the service's."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.plan import RetryPolicy
from app.dsl.document import DefaultsDocument, StepDocument
from app.dsl.retry import NEVER, ONE_TRY, SERVICE_RETRY, policy_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDefaults:
    """What holds where a document is silent. Durations are seconds."""

    retry: RetryPolicy = SERVICE_RETRY
    """For kinds that are retried by default, where a repetition is harmless."""
    step_timeout: float | None = 300.0
    """Bounds one attempt."""
    run_timeout: float | None = None
    max_concurrency: int = 64
    """Attempts of one run in flight together; a document may ask for fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPolicies:
    """The rules of one step, in the core's words."""

    retry: RetryPolicy
    timeout: float | None
    repeatable: bool


def policies_of(
    step: StepDocument,
    document: DefaultsDocument,
    service: PlanDefaults,
    *,
    retried_by_default: bool,
    repeatable: bool,
) -> StepPolicies:
    """`repeatable` is what the kind says of this step; `on_unknown` and `retry: never` overrule it.

    The document's `retry` speaks of all steps and knows none, so it does not reach one whose repetition may
    do harm: only what stands at the step itself does.
    """
    if step.on_unknown is not None:
        repeatable = step.on_unknown == "retry"
    asked = step.retry
    if asked is None and (repeatable or document.retry == NEVER):
        asked = document.retry
    if asked == NEVER and step.on_unknown is None:
        repeatable = False
    if asked is not None:
        retry = policy_of(asked)
    else:
        retry = service.retry if retried_by_default and repeatable else ONE_TRY
    return StepPolicies(
        retry=retry,
        timeout=step.timeout_seconds or document.timeout_seconds or service.step_timeout,
        repeatable=repeatable,
    )
