"""A streamed answer of a chat model, whatever its vendor: pieces in, deltas and the whole out.

What the pieces mean is an `Assembly`'s, how they come is `vendor_api`'s. A delta is never empty: whoever
hears one has heard a part of the answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from app.ports.models import CallContext, ChatDelta, ChatResult
from app.providers.vendor_api import StreamParser, VendorApi


class Assembly(Protocol):
    """One answer in the making. What it cannot understand is `Malformed`."""

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end, as against a connection that did."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the server said that nothing more will come; some leave the connection open then."""
        ...

    def add(self, piece: Mapping[str, Any], /) -> ChatDelta | None:
        """Take the next piece; the delta to show, if there is one."""
        ...

    def result(self) -> ChatResult:
        """The whole."""
        ...


async def streamed(
    api: VendorApi,
    path: str,
    body: bytes,
    context: CallContext,
    assembly: Assembly,
    *,
    read_whole: Callable[[dict[str, Any]], ChatResult] | None = None,
    headers: Mapping[str, str] | None = None,
    parser: StreamParser | None = None,
) -> AsyncGenerator[ChatDelta | ChatResult, None]:
    """Post, and yield as `ChatModel.stream` does. Raises `PermanentError` and `TemporaryError` only.

    `read_whole` reads the answer of a server that ignores the wish to stream; None where such an answer is
    a stream of one piece.
    """
    async with api.stream(path, body, context, headers=headers) as answer:
        if read_whole is not None and answer.headers.get("content-type", "").startswith("application/json"):
            result = api.read(read_whole, api.success(answer.headers, await answer.read()))
            if result.text:
                yield ChatDelta(text=result.text)
            yield result
            return
        async with aclosing(api.events(answer, parser)) as pieces:
            async for piece in pieces:
                delta = api.read(assembly.add, piece)
                if delta is not None:
                    yield delta
                if assembly.ended:
                    break
        await answer.drain()
    if not assembly.complete:
        raise api.ended_early()
    yield api.read(assembly.result)
