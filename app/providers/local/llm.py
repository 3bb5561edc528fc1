"""The local chat model: an adapter for its HTTP server, pointed at a process that is started when needed.

The process has another address and key after every start, so the adapter is made anew with each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TypeAlias

from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatDelta, ChatModel, ChatRequest, ChatResult
from app.providers.local.packages import CHAT_MODEL
from app.providers.local.process import Address, ModelProcess
from app.providers.streams import ended

Connect: TypeAlias = Callable[[Address], ChatModel]


class LocalChat:
    """Implements `app.ports.models.ChatModel` for the model `smollm2-135m-instruct`.

    Waiting for the process is part of the call's time.
    """

    def __init__(self, process: Callable[[], ModelProcess], connect: Connect) -> None:
        """`process` is asked at every call; it raises `PermanentError` where nothing is installed."""
        self._process = process
        self._connect = connect
        self._connected: tuple[Address, ChatModel] | None = None

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See the port."""
        model, rest = await self._ready(request, context)
        return await model.complete(request, rest)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """See the port."""
        model, rest = await self._ready(request, context)
        async with ended(model.stream(request, rest)) as pieces:
            async for piece in pieces:
                yield piece

    async def _ready(self, request: ChatRequest, context: CallContext) -> tuple[ChatModel, CallContext]:
        """The adapter for the living process, and what is left of the call's time."""
        if request.model != CHAT_MODEL:
            raise PermanentError(
                "not_found", f"there is no local chat model {request.model!r}; use {CHAT_MODEL!r}"
            )
        clock = asyncio.get_running_loop().time
        began = clock()
        address = await self._process().address(timeout_seconds=context.timeout_seconds)
        if self._connected is None or self._connected[0] != address:
            self._connected = (address, self._connect(address))
        left = max(context.timeout_seconds - (clock() - began), 0.001)
        return self._connected[1], replace(context, timeout_seconds=left)
