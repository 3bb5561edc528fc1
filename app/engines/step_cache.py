"""Outputs of steps that say `cache`, kept for as long as they say, a tenant at a time.

The key is a digest of what the step is asked, or of the value of its own `key` and of the step as it is
written, so that another prompt is another key; no key holds anything in clear. Only successes are kept.
Within a process, steps that ask the same at the same time wait for one call; one that fails sets them
free to make their own. A store that cannot be read or written costs a call, never a step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson
import structlog

from app.dsl.compiled import CompiledCache
from app.engines.attempts import AttemptLimits, content_hash, encode_data
from app.engines.brought import Asked, Brought, Call
from app.observability.recorder import Recorder
from app.ports.clock import Clock
from app.ports.errors import StoreError
from app.ports.runs import StepCache
from app.templating.renderer import Renderer

log = structlog.get_logger(__name__)

COMPLAINT_SECONDS: Final = 60.0
"""A store that stays out of order is said in the log this often."""
CLOSE_SECONDS: Final = 5.0
"""How long `close` waits for values that are being stored."""
_FORMAT: Final = "1"
"""Begins every key; a value of another form is never found."""

Place = tuple[str, str]
"""Tenant and key."""

UnderWay = asyncio.Future[Brought | None]
"""A call that others may wait for; None if it failed."""


class CachedOutcomes:
    """Implements `app.engines.brought.OutcomeCache`; one a process. `close` it before the store."""

    def __init__(
        self,
        store: StepCache,
        renderer: Renderer,
        clock: Clock,
        limits: AttemptLimits,
        recorder: Recorder,
    ) -> None:
        self._store = store
        self._renderer = renderer
        self._clock = clock
        self._limits = limits
        self._recorder = recorder
        self._under_way: dict[Place, UnderWay] = {}
        self._saving: set[asyncio.Task[None]] = set()
        self._complained_at: float | None = None

    async def outcome(self, asked: Asked, call: Call, *, fresh: bool) -> Brought:
        """What is known, or what `call` brings. Raises what `call` raises, and `TemplateFailed`."""
        rule = asked.step.cache
        if rule is None:
            return await call()
        key = await self._key(asked, rule)
        if key is None:
            return await call()
        place = (asked.run.tenant, key)
        known = None if fresh else await self._known(place, rule)
        self._recorder.step_cache("miss" if known is None else "hit")
        return known or await self._called(place, asked, rule, call)

    async def close(self) -> None:
        """Wait for what is being stored, for a while."""
        if self._saving:
            _, late = await asyncio.wait(self._saving, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _key(self, asked: Asked, rule: CompiledCache) -> str | None:
        if rule.key is None:
            return None if asked.content is None else f"{_FORMAT}:content:{asked.content}"
        value = await self._renderer.render(rule.key, asked.names)
        step = asked.step
        written = step.config.assemble([part.source for part in step.config.parts])
        digest = content_hash(step.type, [asked.run.workflow, step.key, written, value])
        return None if digest is None else f"{_FORMAT}:key:{digest}"

    # --- what is known --------------------------------------------------------------------------------

    async def _known(self, place: Place, rule: CompiledCache) -> Brought | None:
        """From a call that is under way, or from the store."""
        if place in self._under_way:
            return await self._awaited(place)
        try:
            value = await self._store.find(*place, self._clock.now())
        except StoreError:
            self._complain("step_cache.not_read")
            value = None
        known = None if value is None else self._read(value, rule)
        # Somebody may have begun to call while the store was asked.
        return known or await self._awaited(place)

    async def _awaited(self, place: Place) -> Brought | None:
        """What a call that is under way brings; None if there is none, or it fails."""
        first = self._under_way.get(place)
        if first is None:
            return None
        await asyncio.wait({first})  # which leaves it alone if this one is cancelled
        found = first.result()
        return None if found is None else _from_cache(found.outputs, found.billing)

    def _read(self, value: bytes, rule: CompiledCache) -> Brought | None:
        kept: Mapping[str, Any] = orjson.loads(value)
        if kept["at"] + rule.ttl_seconds <= self._clock.now():
            return None  # another step let it stand for longer
        return _from_cache(kept["outputs"], kept["billing"])

    # --- calls ----------------------------------------------------------------------------------------

    async def _called(self, place: Place, asked: Asked, rule: CompiledCache, call: Call) -> Brought:
        """Make the call; who asks the same meanwhile waits for it, where nobody else made it first."""
        mine: UnderWay = asyncio.get_running_loop().create_future()
        first = self._under_way.setdefault(place, mine) is mine
        try:
            outcome = await call()
            value = self._value(asked, outcome)
        except BaseException:
            mine.set_result(None)
            if first:
                del self._under_way[place]
            raise
        mine.set_result(outcome)
        saving = asyncio.get_running_loop().create_task(self._save(place, value, rule))
        self._saving.add(saving)
        saving.add_done_callback(lambda _: self._saved(saving, place, mine))
        return outcome

    def _value(self, asked: Asked, outcome: Brought) -> bytes:
        """Raises `PermanentError` for outputs that are none, so that the attempt fails instead."""
        value = {"at": self._clock.now(), "outputs": outcome.outputs, "billing": outcome.billing}
        return encode_data(asked.path, value, self._limits)

    async def _save(self, place: Place, value: bytes, rule: CompiledCache) -> None:
        try:
            await self._store.save(*place, value, expires_at=self._clock.now() + rule.ttl_seconds)
        except StoreError:
            self._complain("step_cache.not_written")

    def _saved(self, saving: asyncio.Task[None], place: Place, mine: UnderWay) -> None:
        """Only now the store can be asked instead."""
        self._saving.discard(saving)
        if self._under_way.get(place) is mine:
            del self._under_way[place]

    def _complain(self, event: str) -> None:
        now = self._clock.now()
        if self._complained_at is None or now - self._complained_at >= COMPLAINT_SECONDS:
            self._complained_at = now
            log.warning(event, exc_info=True)


def _from_cache(outputs: Mapping[str, Any], billing: Mapping[str, Any] | None) -> Brought:
    return Brought(outputs=outputs, source={"cache": True, "saved": billing})
