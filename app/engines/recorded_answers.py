"""Who stands in for the outside world while a recording is replayed: nobody, and that is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from app.dsl.compiled import Budget, CompiledStep
from app.engines.children import ItemCall, Seen
from app.engines.facts import Fact
from app.engines.identity import RunIdentity
from app.ports.http import HttpClient
from app.ports.models import CallContext, ChatModel, Embedder, Reranker
from app.ports.steps import StepContext
from app.ports.vectors import VectorStore
from app.steps.kind import StepKind


class NobodyIsCalled(RuntimeError):
    """A step that computes tried to call somebody."""


class NoServices:
    """`app.ports.steps.Services` of a replay."""

    action_webhook: str | None = None

    @property
    def http(self) -> HttpClient:
        """Refuses."""
        raise NobodyIsCalled("a replay sends no request")

    @property
    def operator_http(self) -> HttpClient:
        """Refuses."""
        raise NobodyIsCalled("a replay sends no request")

    def chat(self, provider: str) -> ChatModel:
        """Refuses."""
        raise NobodyIsCalled(f"a replay does not call {provider!r}")

    def embedder(self, provider: str) -> Embedder:
        """Refuses."""
        raise NobodyIsCalled(f"a replay does not call {provider!r}")

    def reranker(self, provider: str) -> Reranker:
        """Refuses."""
        raise NobodyIsCalled(f"a replay does not call {provider!r}")

    def vectors(self, database: str) -> VectorStore:
        """Refuses."""
        raise NobodyIsCalled(f"a replay does not ask {database!r}")


class RecordedChildren:
    """`app.engines.children.Children` of a replay: any workflow may be called, and none runs."""

    async def resolve(self, caller: RunIdentity, step: CompiledStep, rendered: Any) -> Mapping[str, Any]:
        """What the step asks for, whether or not that is registered anywhere."""
        config: Any = step.kind.config_model.of_rendered(rendered)
        return {"workflow": config.workflow, "version": config.version, "inputs": config.inputs}

    async def launch(
        self,
        caller: RunIdentity,
        path: str,
        call: Mapping[str, Any],
        run_id: str,
        *,
        wait: bool,
        reuse: str | None = None,
        budget: Budget | None = None,
        item: ItemCall | None = None,
    ) -> Fact | None:
        """Refuses: the replay answers itself."""
        raise NobodyIsCalled("a replay starts no other run")

    async def budget_of(self, run_id: str) -> Budget | None:
        """Nobody was given one."""
        return None

    look_seconds: float | None = None

    async def look(self, items: Mapping[str, str]) -> Seen:
        """None ever ends."""
        return Seen(ended=(), paused={})

    async def pause(self, run_id: str) -> None:
        """Refuses: there is no other run."""
        raise NobodyIsCalled("a replay pauses no other run")

    async def resume(self, run_id: str) -> None:
        """Refuses: there is no other run."""
        raise NobodyIsCalled("a replay resumes no other run")

    async def cancel(self, caller: RunIdentity, path: str, run_id: str) -> Fact:
        """Refuses: the replay answers itself."""
        raise NobodyIsCalled("a replay ends no other run")


async def compute(step: CompiledStep, config: Any) -> Mapping[str, Any]:
    """The outputs of a step that needs nobody. Raises `CallError` as an attempt does."""
    kind = cast("StepKind", step.kind)
    call = CallContext(run_id="", path="", attempt=1, idempotency_key="", timeout_seconds=step.timeout or 0.0)
    context = StepContext(
        call=call, services=cast("Any", NoServices()), emit=lambda _: None, workflow="", tenant=""
    )
    outcome = await kind.execute(config, context)
    return outcome.outputs
