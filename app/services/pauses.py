"""Use cases around pauses: hold a run, and let it go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.engines.engine import Engine
from app.ports.runs import RunStatus, RunStore
from app.services.asked import AskedOnce, nothing_more
from app.services.errors import RunNotFound
from app.services.idempotency import Answer, Idempotency, IdempotencyKey
from app.services.principal import Principal


class PauseService:
    """Pauses of the runs of a process."""

    def __init__(self, *, runs: RunStore, engine: Engine, idempotency: Idempotency, asked: AskedOnce) -> None:
        self._runs = runs
        self._asked = asked
        self._engine = engine
        self._idempotency = idempotency

    async def pause(
        self,
        principal: Principal,
        run_id: str,
        *,
        reason: str | None,
        answer: Answer,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Start nothing further of a run; `answer`, or the one given before under the key (True).

        Raises `RunNotFound`, `RunEnded`, `NotPossible` if it is paused already,
        `CancelPending`, `HandedOver`, `UnreadableRun`.
        """

        async def pause() -> Answer:
            await self._check(principal, run_id)
            await self._asked.once(
                principal.tenant,
                key,
                run_id,
                lambda request: self._engine.pause(run_id, reason=reason, request=request),
                nothing_more,
            )
            return answer

        return await self._idempotency.once(principal.tenant, key, pause)

    async def resume(
        self,
        principal: Principal,
        run_id: str,
        *,
        receipt: Callable[[RunStatus], Answer],
        budget: Mapping[str, Any] | None = None,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Go on with a paused run; one that was paused before its turn waits for it again.

        `receipt` writes the answer for a run that is `running`, or `pending`. Raises as `pause`;
        `NotPossible` if it is not paused.

        `budget`: fields of `app.dsl.compiled.Budget` that hold from here on.
        """

        async def resume() -> Answer:
            await self._check(principal, run_id)
            await self._asked.once(
                principal.tenant,
                key,
                run_id,
                lambda request: self._engine.resume(run_id, budget=budget, request=request),
                nothing_more,
            )
            now = await self._runs.get(principal.tenant, run_id)
            return receipt("pending" if now is not None and now.status == "pending" else "running")

        return await self._idempotency.once(principal.tenant, key, resume)

    async def _check(self, principal: Principal, run_id: str) -> None:
        if await self._runs.get(principal.tenant, run_id) is None:
            raise RunNotFound(run_id)
