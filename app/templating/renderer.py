"""Renders compiled values: linear templates in process, all others in worker processes.

The context maps root names (`inputs`, `steps`, `outputs`, `run`, …) to JSON data, which is never changed
and never rendered. A render costs the event loop no more than `RenderLimits.inline_work`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.ports.errors import TemplateFailed
from app.templating.compiler import Compiled, Part
from app.templating.failures import located, render_failure
from app.templating.limits import RenderLimits
from app.templating.names import Reference
from app.templating.pool import WorkerPool
from app.templating.scope import OverBudget, Scope


class Renderer:
    """Owns the workers; one a process. `close` it."""

    def __init__(self, limits: RenderLimits, *, workers: int = 1) -> None:
        self._limits = limits
        self._pool = WorkerPool(limits, workers)

    def render_inline(self, compiled: Compiled, context: Mapping[str, Any]) -> Any:
        """Render on the spot. Raises `TemplateFailed`, also when the data make it too much work.

        Raises `ValueError` for a value that is not `inline`.
        """
        try:
            return self.render_within_budget(compiled, context)
        except OverBudget as error:
            raise TemplateFailed(
                "the template does too much work for its place; take a part of the data"
            ) from error

    def render_within_budget(self, compiled: Compiled, context: Mapping[str, Any]) -> Any:
        """Like `render_inline`, but raises `OverBudget` where `render` would turn to a worker."""
        if not compiled.inline:
            raise ValueError("only a value with `inline` set can be rendered in process")
        return compiled.assemble(self._in_process(compiled, compiled.parts, context))

    async def render(self, compiled: Compiled, context: Mapping[str, Any]) -> Any:
        """Render where it is safe. Raises `TemplateFailed`."""
        try:
            if compiled.inline:
                return compiled.assemble(self._in_process(compiled, compiled.parts, context))
        except OverBudget:
            return compiled.assemble(await self._in_worker(compiled.parts, context))
        return compiled.assemble(await self._in_worker(compiled.parts, context))

    async def close(self) -> None:
        """End the workers; what still renders there fails."""
        await self._pool.close()

    def _in_process(self, compiled: Compiled, parts: Sequence[Part], context: Mapping[str, Any]) -> list[Any]:
        limits = self._limits
        scope = Scope(compiled.sandbox, context, work=limits.inline_work, room=limits.max_output_chars)
        values: list[Any] = []
        for part in parts:
            try:
                values.append(part.loaded.render(scope))
            except OverBudget:
                raise
            except Exception as error:
                raise located(render_failure(error), part.pointer) from error
        return values

    async def _in_worker(self, parts: Sequence[Part], context: Mapping[str, Any]) -> list[Any]:
        references = {reference for part in parts for reference in part.loaded.references}
        answer = await self._pool.ask(
            {
                "parts": [
                    [part.use, part.source, sorted(part.names.extra), part.names.secrets] for part in parts
                ],
                "context": referenced(context, references),
            }
        )
        values = answer.get("values")
        if isinstance(values, list) and len(values) == len(parts):
            return values
        failed = answer.get("failed")
        pointer = parts[failed].pointer if isinstance(failed, int) and 0 <= failed < len(parts) else ""
        raise located(str(answer.get("message")), pointer)


def referenced(context: Mapping[str, Any], references: Iterable[Reference]) -> dict[str, Any]:
    """The part of a context that these references reach; what is missing stays missing."""
    found: dict[str, Any] = {}
    for reference in sorted(references, key=lambda reference: len(reference.parts), reverse=True):
        source: Any = context
        target: dict[str, Any] = found
        path = (reference.root, *reference.parts)
        for position, key in enumerate(path):
            if not isinstance(source, Mapping) or key not in source:
                break
            source = source[key]
            if position == len(path) - 1 or not isinstance(source, Mapping):
                target[key] = source
                break
            target = target.setdefault(key, {})
    return found
