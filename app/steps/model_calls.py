"""Calls to chat models: made, passed on while they are streamed, and kept for the bill."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from app.ports.errors import CallError, ErrorClass, TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatModel, ChatRequest, ChatResult
from app.ports.steps import Emit, ModelCall, StepContext


def answer(
    model: ChatModel, request: ChatRequest, call: CallContext, emit: Emit | None
) -> Awaitable[ChatResult]:
    """One call; with `emit` it is streamed. Raises what the provider raises, and
    `TemporaryError("connection")` for a stream without an end."""
    return model.complete(request, call) if emit is None else _streamed(model, request, call, emit)


async def _streamed(model: ChatModel, request: ChatRequest, call: CallContext, emit: Emit) -> ChatResult:
    result: ChatResult | None = None
    async for item in model.stream(request, call):
        match item:
            case ChatDelta(text=text):
                emit(text)
            case ChatResult():
                result = item
    if result is None:
        raise TemporaryError("connection", "the provider's stream ended before the answer was complete")
    return result


class ModelCalls:
    """The calls of one attempt."""

    def __init__(self, context: StepContext, *, stream: bool) -> None:
        self.made: list[ModelCall] = []
        """In order, those that failed included."""
        self.streamed = False
        """Whether a piece of an answer has been passed on: it cannot be taken back."""
        self._services = context.services
        self._listeners = context.emit
        self._emit = self._pass_on if stream else None

    async def make(self, provider: str, request: ChatRequest, call: CallContext) -> ChatResult:
        """Make a call and keep it. Raises as `answer`, and what an unknown provider raises."""
        try:
            result = await answer(self._services.chat(provider), request, call, self._emit)
        except CallError as error:
            self._keep_failed(provider, request, error.error_class, unsent=error.unsent)
            raise
        except asyncio.CancelledError:
            self._keep_failed(provider, request, "timeout")
            raise
        self.made.append(
            ModelCall(provider=provider, asked_model=request.model, model=result.model, usage=result.usage)
        )
        return result

    def _keep_failed(
        self, provider: str, request: ChatRequest, error_class: ErrorClass, *, unsent: bool = False
    ) -> None:
        failed = ModelCall(
            provider=provider, asked_model=request.model, error_class=error_class, unsent=unsent
        )
        self.made.append(failed)

    def _pass_on(self, text: str) -> None:
        self.streamed = True
        self._listeners(text)
