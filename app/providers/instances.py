"""The instances of model vendors: from the operator's configuration to adapters.

A vendor is one file with its adapter and its config class (a frozen dataclass with `name` and
`max_concurrency`), one builder here and one line in `VENDORS`; nothing else knows its name. What goes
around adapters is `app.providers.wrapping`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from app.ports.models import ChatModel, Embedder, Reranker
from app.providers.anthropic.adapter import Anthropic, AnthropicConfig
from app.providers.azure import Azure, AzureConfig
from app.providers.cohere.adapter import Cohere, CohereConfig
from app.providers.echo import Echo, EchoConfig
from app.providers.gemini.adapter import Gemini, GeminiConfig
from app.providers.guard import Guard
from app.providers.local.models import LocalModels
from app.providers.mistral import Mistral, MistralConfig
from app.providers.ollama.adapter import Ollama, OllamaConfig
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.rerank_server import RerankServer, RerankServerConfig
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
    calls_nobody: bool = False
    """Whether nothing of it calls anybody: then there is nobody to be spared by a circuit breaker."""
    vendor: str = ""
    """As the operator's configuration spells it."""
    guard: Guard | None = None
    """What stands before it, once it is wrapped."""
    aclose: Callable[[], Awaitable[None]] = _nothing_to_close


def _openai(config: OpenAIConfig, transport: Transport) -> Instance:
    adapter = OpenAI(config, transport)
    return Instance(name=config.name, chat=adapter, embedder=adapter)


def _azure(config: AzureConfig, transport: Transport) -> Instance:
    adapter = Azure(config, transport)
    return Instance(name=config.name, chat=adapter, embedder=adapter)


def _mistral(config: MistralConfig, transport: Transport) -> Instance:
    adapter = Mistral(config, transport)
    return Instance(name=config.name, chat=adapter, embedder=adapter)


def _anthropic(config: AnthropicConfig, transport: Transport) -> Instance:
    return Instance(name=config.name, chat=Anthropic(config, transport))


def _cohere(config: CohereConfig, transport: Transport) -> Instance:
    adapter = Cohere(config, transport)
    return Instance(name=config.name, chat=adapter, embedder=adapter, reranker=adapter)


def _rerank_server(config: RerankServerConfig, transport: Transport) -> Instance:
    return Instance(name=config.name, reranker=RerankServer(config, transport))


def _gemini(config: GeminiConfig, transport: Transport) -> Instance:
    adapter = Gemini(config, transport)
    return Instance(name=config.name, chat=adapter, embedder=adapter)


def _ollama(config: OllamaConfig, transport: Transport) -> Instance:
    adapter = Ollama(config, transport)
    return Instance(name=config.name, chat=adapter, embedder=adapter)


def _echo(config: EchoConfig, transport: Transport) -> Instance:
    del transport  # it stays offline
    adapter = Echo(config)
    return Instance(name=config.name, chat=adapter, embedder=adapter, reranker=adapter, calls_nobody=True)


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
    AzureConfig: _azure,
    MistralConfig: _mistral,
    AnthropicConfig: _anthropic,
    CohereConfig: _cohere,
    RerankServerConfig: _rerank_server,
    GeminiConfig: _gemini,
    OllamaConfig: _ollama,
    EchoConfig: _echo,
    LocalConfig: _local,
}
"""How an instance is built, by the class of its config."""
