"""One try at a step: render its configuration, execute its kind, say how it went.

Every outcome becomes a fact; nothing but cancellation leaves as an exception. What does not belong here:
whether to try again (the core), storage (the runner).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from pydantic import ValidationError

from app.core import events as e
from app.dsl.compiled import CompiledStep
from app.engines.facts import Fact
from app.ports.clock import Clock
from app.ports.errors import CallError, PermanentError, TemplateFailed, TemporaryError
from app.ports.models import CallContext
from app.ports.steps import Emit, Services, StepContext, StepOutcome
from app.steps.kind import RENDERED
from app.templating.renderer import Renderer

log = structlog.get_logger(__name__)

SPARE_LEVELS = 120
"""Levels of nesting that stay free around a step's outputs; they may take some 130 themselves."""
SHALLOW = 100
"""Brackets that no walk is needed for."""
MAX_MESSAGE = 2000
"""Characters of an error message that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLimits:
    """Bounds that hold for every attempt."""

    default_timeout_seconds: float = 600.0
    """Deadline of the calls of a step that sets no timeout."""
    max_output_bytes: int = 16 * 1024 * 1024
    """JSON size of a step's outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """Whose run it is, for calls and logs."""

    run_id: str
    tenant: str
    workflow: str
    labels: Mapping[str, str]


class Attempts:
    """Executes tries for all runs of a process."""

    def __init__(self, services: Services, renderer: Renderer, clock: Clock, limits: AttemptLimits) -> None:
        self._services = services
        self._renderer = renderer
        self._clock = clock
        self._limits = limits

    async def execute(
        self, run: RunIdentity, step: CompiledStep, attempt: int, names: Mapping[str, Any], emit: Emit
    ) -> list[Fact]:
        """Run one try; the last fact is its outcome."""
        try:
            config = await self._configure(step, names)
            outcome = await step.kind.execute(config, self._context(run, step, attempt, emit))
            return self._success(step, attempt, outcome)
        except (CallError, TemplateFailed, ValidationError) as error:
            failure = as_failure(error)
        except Exception as error:
            # a bug in an adapter fails its step, not the runner and its other steps
            log.exception("step.crashed", run_id=run.run_id, step=step.id, attempt=attempt)
            failure = e.Failure(
                error_class="internal",
                message=f"step {step.id!r} hit an internal error ({type(error).__name__}); see the log",
            )
        now = self._clock.now()
        return [Fact(event=e.AttemptFailed(path=step.id, attempt=attempt, failure=failure, at=now))]

    async def _configure(self, step: CompiledStep, names: Mapping[str, Any]) -> Any:
        rendered = await self._renderer.render(step.config, names)
        return step.kind.config_model.model_validate(rendered, context=RENDERED)

    def _context(self, run: RunIdentity, step: CompiledStep, attempt: int, emit: Emit) -> StepContext:
        call = CallContext(
            run_id=run.run_id,
            path=step.id,
            attempt=attempt,
            idempotency_key=f"{run.run_id}:{step.id}",
            timeout_seconds=step.timeout or self._limits.default_timeout_seconds,
        )
        return StepContext(
            call=call,
            services=self._services,
            emit=emit,
            workflow=run.workflow,
            tenant=run.tenant,
            labels=run.labels,
        )

    def _success(self, step: CompiledStep, attempt: int, outcome: StepOutcome) -> list[Fact]:
        now = self._clock.now()
        facts = [
            Fact(
                event=e.NoticeEmitted(path=step.id, attempt=attempt, at=now),
                data=notice,
                encoded=encode_data(step.id, notice, self._limits),
            )
            for notice in outcome.emitted
        ]
        data = {"outputs": outcome.outputs, "billing": billing(outcome)}
        success = e.StepSucceeded(path=step.id, attempt=attempt, at=now)
        facts.append(Fact(event=success, data=data, encoded=encode_data(step.id, data, self._limits)))
        return facts


def encode_data(path: str, data: Mapping[str, Any], limits: AttemptLimits) -> bytes:
    """JSON of what a step brought. Raises `PermanentError` if it is no JSON, too deep or too large."""
    try:
        encoded = orjson.dumps(data)
        if encoded.count(b"[") + encoded.count(b"{") > SHALLOW:
            orjson.dumps(_wrapped(data))
    except TypeError as error:
        raise PermanentError(
            "invalid_output", f"the outputs of {path!r} are not JSON that can be stored: {error}"
        ) from error
    if len(encoded) > limits.max_output_bytes:
        raise PermanentError(
            "too_large",
            f"the outputs of {path!r} take {len(encoded):,} bytes, more than the {limits.max_output_bytes:,} "
            "allowed; return less, or raise runs.max_output_bytes",
        )
    return encoded


def _wrapped(data: Any) -> Any:
    """Deep enough that orjson, whose bound is 254 levels, refuses what could not be wrapped for a reader."""
    for _ in range(SPARE_LEVELS):
        data = [data]
    return data


def billing(outcome: StepOutcome) -> Mapping[str, Any] | None:
    """What an outcome says about who was called and what was used; None if nobody was."""
    if outcome.provider is None:
        return None
    usage = outcome.usage
    return {
        "provider": outcome.provider,
        "model": outcome.model,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "reasoning_tokens": usage.reasoning_tokens if usage else None,
    }


def as_failure(error: CallError | TemplateFailed | ValidationError) -> e.Failure:
    """An error as the core knows it."""
    if isinstance(error, TemporaryError):
        return e.Failure(
            error_class=error.error_class,
            message=str(error)[:MAX_MESSAGE],
            temporary=True,
            retry_after=error.retry_after,
        )
    if isinstance(error, CallError):
        return e.Failure(error_class=error.error_class, message=str(error)[:MAX_MESSAGE])
    if isinstance(error, TemplateFailed):
        return e.Failure(error_class="template", message=str(error)[:MAX_MESSAGE])
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = f"after rendering, {where or 'the configuration'} is not valid: {first['msg']}"
    return e.Failure(error_class="invalid_config", message=message[:MAX_MESSAGE])
