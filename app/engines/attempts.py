"""One try at a step: render its configuration, execute its kind, say how it went.

No call is made where an earlier run or the cache knows what it would bring. Every outcome becomes a fact;
nothing but cancellation leaves as an exception. What does not belong here: whether to try again (the
core), storage (the runner).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any, Final, cast

import orjson
import structlog
from pydantic import ValidationError

from app.core import events as e
from app.dsl.compiled import CompiledStep
from app.engines.account import PAUSE_REASON, UNBILLED, UNCHARGED, Account, Charge, Deferred
from app.engines.brought import Asked, Brought, Call, OutcomeCache
from app.engines.embedding import embedding_model
from app.engines.facts import Fact
from app.engines.identity import RunIdentity
from app.engines.reuse import EarlierRun
from app.ports.clock import Clock
from app.ports.errors import CallError, PermanentError, TemplateFailed, TemporaryError
from app.ports.models import CallContext, Usage
from app.ports.prices import Prices, dollars, picodollars
from app.ports.records import record
from app.ports.steps import Emit, ModelCall, Services, StepContext, StepOutcome
from app.steps.faults import first_fault
from app.steps.kind import StepKind
from app.steps.usage import total, usage_output
from app.templating.renderer import Renderer

log = structlog.get_logger(__name__)

SPARE_LEVELS = 120
"""Levels of nesting that stay free around a step's outputs; they may take some 130 themselves."""
SHALLOW = 100
"""Brackets that no walk is needed for."""
MAX_MESSAGE = 2000
"""Characters of an error message that are kept."""
UNKNOWN_USAGE: Final = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLimits:
    """Bounds that hold for every attempt."""

    default_timeout_seconds: float = 600.0
    """Deadline of the calls of a step that sets no timeout."""
    max_output_bytes: int = 16 * 1024 * 1024
    """JSON size of a step's outputs."""


@record
class Try:
    """One try at a step instance."""

    step: CompiledStep
    path: str
    attempt: int
    earlier: EarlierRun | None = None
    """The run whose outcomes may stand in for calls of this one."""
    account: Account | None = None
    """The budget of the run, where it has one."""


class Attempts:
    """Executes tries for all runs of a process."""

    def __init__(
        self,
        services: Services,
        renderer: Renderer,
        clock: Clock,
        limits: AttemptLimits,
        *,
        cache: OutcomeCache,
        prices: Prices,
    ) -> None:
        self._services = services
        self._renderer = renderer
        self._clock = clock
        self._limits = limits
        self._cache = cache
        self._prices = prices

    async def execute(self, run: RunIdentity, this: Try, names: Mapping[str, Any], emit: Emit) -> list[Fact]:
        """Run one try; the last fact is its outcome."""
        step, path, attempt = this.step, this.path, this.attempt
        charge = UNCHARGED if this.account is None else Charge(this.account, path, attempt)
        billed: Mapping[str, Any] | None = None
        unsent = False
        try:
            rendered = await self._renderer.render(step.config, names)
            kind = cast("StepKind", step.kind)  # the core starts no attempts of control steps
            config = kind.config_model.of_rendered(rendered)
            content = content_hash(step.type, rendered)
            made_by = await embedding_model(self._renderer, step, names)
            context = self._context(run, this, emit, made_by)
            if step.cache is None and this.earlier is None:
                brought = await self._call(kind, config, context, charge)
            else:
                asked = Asked(run=run, step=step, path=path, names=names, content=content)
                call = partial(self._call, kind, config, context, charge)
                brought = await self._brought(asked, this.earlier, call)
            return self._success(this, brought, content, charge.data)
        except Deferred as error:
            return self._deferred(this, str(error))
        except (CallError, TemplateFailed, ValidationError) as error:
            failure = as_failure(error)
            billed, unsent = self._billed(error)
        except Exception as error:
            # a bug in an adapter fails its step, not the runner and its other steps
            log.exception("step.crashed", run_id=run.run_id, step=path, attempt=attempt)
            failure = e.Failure(
                error_class="internal",
                message=f"step {path!r} hit an internal error ({type(error).__name__}); see the log",
            )
        except asyncio.CancelledError:
            charge.keep()
            raise
        charge.failed(failure.error_class, billed, unsent=unsent)
        data = {**charge.data, **({} if billed is None else {"billing": billed})}
        event = e.AttemptFailed(path=path, attempt=attempt, failure=failure, at=self._clock.now())
        return [Fact(event=event, data=data or None)]

    def _billed(self, error: Exception) -> tuple[Mapping[str, Any] | None, bool]:
        """What a failed attempt was billed, as far as that is known, and whether it surely was nothing."""
        if not isinstance(error, CallError):
            return None, False
        if error.billed is None:
            return None, error.unsent
        billed = billing(error.billed, self._prices)
        return billed, billed is None

    async def _call(self, kind: StepKind, config: Any, context: StepContext, charge: Charge) -> Brought:
        if charge is not UNCHARGED:
            await charge.reserve(kind, config)
        outcome = await kind.execute(config, context)
        bill = billing(outcome, self._prices)
        charge.settle(bill)
        return Brought(outputs=outcome.outputs, billing=bill, emitted=outcome.emitted)

    async def _brought(self, asked: Asked, earlier: EarlierRun | None, call: Call) -> Brought:
        key = asked.step.key
        known = None if earlier is None else await earlier.outcome(key, asked.path, asked.content)
        if known is not None:
            return known
        fresh = earlier is not None and earlier.must_run(key)
        return await self._cache.outcome(asked, call, fresh=fresh)

    def _context(self, run: RunIdentity, this: Try, emit: Emit, made_by: str | None) -> StepContext:
        call = CallContext(
            run_id=run.run_id,
            path=this.path,
            attempt=this.attempt,
            idempotency_key=f"{run.run_id}:{this.path}",
            timeout_seconds=this.step.timeout or self._limits.default_timeout_seconds,
            tenant=run.tenant,
        )
        return StepContext(
            call=call,
            services=self._services,
            emit=emit,
            workflow=run.workflow,
            tenant=run.tenant,
            labels=run.labels,
            max_tokens=None if this.account is None else this.account.max_tokens,
            max_output_bytes=self._limits.max_output_bytes,
            embedding_model=made_by,
        )

    def _deferred(self, this: Try, detail: str) -> list[Fact]:
        """The run is paused first: what is deferred while it is not would begin again at once."""
        now = self._clock.now()
        return [
            Fact(event=e.RunPaused(reason=PAUSE_REASON, at=now), data={"detail": detail}),
            Fact(event=e.AttemptDeferred(path=this.path, attempt=this.attempt, at=now)),
        ]

    def _success(
        self, this: Try, brought: Brought, content: str | None, charged: Mapping[str, Any]
    ) -> list[Fact]:
        path, attempt, now = this.path, this.attempt, self._clock.now()
        facts = [self._notice(this, notice, now) for notice in brought.emitted] if brought.emitted else []
        data = {"outputs": brought.outputs, "billing": brought.billing, "hash": content, **charged}
        if brought.source is not None:
            data["source"] = brought.source
        success = e.StepSucceeded(path=path, attempt=attempt, at=now)
        facts.append(Fact(event=success, data=data, encoded=encode_data(path, data, self._limits)))
        return facts

    def _notice(self, this: Try, notice: Mapping[str, Any], now: float) -> Fact:
        event = e.NoticeEmitted(path=this.path, attempt=this.attempt, at=now)
        return Fact(event=event, data=notice, encoded=encode_data(this.path, notice, self._limits))


def content_hash(kind: str, rendered: Any) -> str | None:
    """A digest (BLAKE2b-128, hex) of what an attempt is about to do; None for what is no JSON."""
    try:
        body = orjson.dumps([kind, rendered], option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return None
    return blake2b(body, digest_size=16).hexdigest()


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


def billing(outcome: StepOutcome, prices: Prices) -> Mapping[str, Any] | None:
    """What an outcome says about who was called and what was used, and what that costs; None if nobody
    was called.

    Of several calls it is the sum, with each of them under `calls`. One without an answer is there, with its
    `error_class`, if it may have been billed all the same; it does not count in the sum.
    """
    if outcome.provider is None:
        return None
    if not outcome.calls:
        return _bill(outcome.provider, outcome.asked_model, outcome.model, outcome.usage, prices)
    calls = [
        _call_bill(call, prices)
        for call in outcome.calls
        if call.error_class not in UNBILLED and not call.unsent
    ]
    if not calls:
        return None
    answered = [call.usage for call in outcome.calls if call.usage is not None]
    costs = [call["cost_usd"] for call in calls if "error_class" not in call]
    known = [picodollars(cost) for cost in costs if cost is not None]
    return {
        "provider": outcome.provider,
        "model": outcome.model,
        **usage_output(total(answered)),
        "cost_usd": dollars(sum(known)) if len(known) == len(costs) else None,
        "calls": calls,
    }


def _call_bill(call: ModelCall, prices: Prices) -> Mapping[str, Any]:
    bill = _bill(call.provider, call.asked_model, call.model, call.usage, prices)
    failed = {} if call.error_class is None else {"error_class": call.error_class}
    return {**bill, "asked_model": call.asked_model, **failed}


def _bill(
    provider: str, asked_model: str | None, model: str | None, usage: Usage | None, prices: Prices
) -> Mapping[str, Any]:
    usage = usage or UNKNOWN_USAGE
    price = prices.of(provider, asked_model or model or "")
    if price is None and model is not None:
        price = prices.of(provider, model)
    cost = None if price is None else price.cost(usage)
    return {
        "provider": provider,
        "model": model,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_usd": None if cost is None else dollars(cost),
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
    message = "after rendering, " + first_fault(error.errors(include_url=False), whole="the step")
    return e.Failure(error_class="invalid_config", message=message[:MAX_MESSAGE])
