"""The instances of model vendors: from the operator's configuration to wrapped adapters.

A vendor is one file with its adapter and its config class (a frozen dataclass with `name` and
`max_concurrency`), one builder here and one line in `VENDORS`; nothing else knows its name. Anthropic,
Cohere and the hosted vector databases go the same way.

Wrapping, from the outside in: limits, metrics and tracing, adapter. So the time that a call waits for a
slot is not counted as the vendor's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from app.observability.tracing import Tracer
from app.ports.models import ChatModel, Embedder, Reranker
from app.providers.echo import Echo, EchoConfig
from app.providers.limits import LimitedChat, LimitedEmbedder, LimitedReranker
from app.providers.local.models import LocalModels
from app.providers.metered import CallRecorder, Meter, MeteredChat, MeteredEmbedder, MeteredReranker
from app.providers.openai import OpenAI, OpenAIConfig
from app.providers.transport import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """The packaged models. `max_concurrency` completions are made at once, with `threads` threads in all."""

    name: str = "local"
    threads: int | None = None
    max_concurrency: int | None = 2


class InstanceConfig(Protocol):
    """What every vendor's config has. `max_concurrency` None means unlimited."""

    @property
    def name(self) -> str:
        """What workflows call the instance."""
        ...

    @property
    def max_concurrency(self) -> int | None:
        """Calls at once, of all sorts together where they go to the vendor."""
        ...


async def _nothing_to_close() -> None:
    """Most adapters hold nothing of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What one instance offers; None for what its vendor does not do."""

    name: str
    chat: ChatModel | None = None
    embedder: Embedder | None = None
    reranker: Reranker | None = None
    embeds_in_process: bool = False
    """Whether embedding and reranking call nobody and therefore take no slot."""
    aclose: Callable[[], Awaitable[None]] = _nothing_to_close


def _openai(config: OpenAIConfig, transport: Transport) -> Instance:
    adapter = OpenAI(config, transport)
    return Instance(name=config.name, chat=adapter, embedder=adapter)


def _echo(config: EchoConfig, transport: Transport) -> Instance:
    del transport  # it stays offline
    adapter = Echo(config)
    return Instance(name=config.name, chat=adapter, embedder=adapter, reranker=adapter)


def _local(config: LocalConfig, transport: Transport) -> Instance:
    slots = config.max_concurrency or 2
    models = LocalModels(transport, name=config.name, slots=slots, threads=config.threads)
    return Instance(
        name=config.name,
        chat=models.chat(),
        embedder=models.embedder(),
        reranker=models.reranker(),
        embeds_in_process=True,
        aclose=models.close,
    )


VENDORS: Final[Mapping[type[InstanceConfig], Callable[[Any, Transport], Instance]]] = {
    OpenAIConfig: _openai,
    EchoConfig: _echo,
    LocalConfig: _local,
}
"""How an instance is built, by the class of its config."""


def build_instance(
    config: InstanceConfig, transport: Transport, recorder: CallRecorder, tracer: Tracer
) -> Instance:
    """One instance with its limits, metrics and tracing around it.

    Raises `ValueError` for a configuration that cannot work (base URL, concurrency).
    """
    limit = config.max_concurrency
    if limit is not None and limit < 1:
        raise ValueError(f"max_concurrency of instance {config.name!r} must be at least 1, or left out")
    bare = VENDORS[type(config)](config, transport)
    meter = Meter(bare.name, recorder, tracer)
    chat: ChatModel | None = MeteredChat(bare.chat, meter) if bare.chat else None
    embedder: Embedder | None = MeteredEmbedder(bare.embedder, meter) if bare.embedder else None
    reranker: Reranker | None = MeteredReranker(bare.reranker, meter) if bare.reranker else None
    if limit is not None:
        slots = asyncio.Semaphore(limit)
        chat = LimitedChat(chat, slots) if chat else None
        if embedder and not bare.embeds_in_process:
            embedder = LimitedEmbedder(embedder, slots)
        if reranker and not bare.embeds_in_process:
            reranker = LimitedReranker(reranker, slots)
    return Instance(name=bare.name, chat=chat, embedder=embedder, reranker=reranker, aclose=bare.aclose)
