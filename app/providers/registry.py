"""The outside world by name, as steps ask for it: `app.ports.steps.Services`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from app.ports.errors import PermanentError
from app.ports.http import HttpClient
from app.ports.models import ChatModel, Embedder, Reranker
from app.ports.vectors import VectorStore
from app.providers.checked_http import CheckedHttp, OperatorHttp
from app.providers.instances import Instance, InstanceConfig
from app.providers.transport import Transport
from app.providers.wrapping import InstanceTerms, Wrapping, build_instance
from app.security.egress import EgressPolicy

T = TypeVar("T")


class Providers:
    """Instances, vector databases and HTTP. It owns the connections of the first and the last."""

    def __init__(
        self,
        *,
        instances: Iterable[Instance],
        vectors: Mapping[str, VectorStore],
        http: HttpClient,
        operator_http: HttpClient,
        transports: Iterable[Transport] = (),
        action_webhook: str | None = None,
    ) -> None:
        """Raises `ValueError` when two instances have one name."""
        self.http: HttpClient = http
        self.operator_http: HttpClient = operator_http
        self.action_webhook = action_webhook
        self._instances: dict[str, Instance] = {}
        for instance in instances:
            if instance.name in self._instances:
                raise ValueError(f"two provider instances are called {instance.name!r}; rename one")
            self._instances[instance.name] = instance
        self._chats = {name: it.chat for name, it in self._instances.items() if it.chat is not None}
        self._embedders = {
            name: it.embedder for name, it in self._instances.items() if it.embedder is not None
        }
        self._rerankers = {
            name: it.reranker for name, it in self._instances.items() if it.reranker is not None
        }
        self._vectors = dict(vectors)
        self._transports = tuple(transports)

    @property
    def chat_names(self) -> tuple[str, ...]:
        """Instances that chat."""
        return tuple(self._chats)

    @property
    def embedder_names(self) -> tuple[str, ...]:
        """Instances that embed."""
        return tuple(self._embedders)

    @property
    def reranker_names(self) -> tuple[str, ...]:
        """Instances that rerank."""
        return tuple(self._rerankers)

    @property
    def vector_names(self) -> tuple[str, ...]:
        """Vector databases."""
        return tuple(self._vectors)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All of them, in the order they were configured."""
        return tuple(self._instances.values())

    def chat(self, provider: str) -> ChatModel:
        """See `Services`."""
        return _named(provider, self._chats, "chat provider")

    def embedder(self, provider: str) -> Embedder:
        """See `Services`."""
        return _named(provider, self._embedders, "embedding provider")

    def reranker(self, provider: str) -> Reranker:
        """See `Services`."""
        return _named(provider, self._rerankers, "reranking provider")

    def vectors(self, database: str) -> VectorStore:
        """See `Services`."""
        return _named(database, self._vectors, "vector database")

    async def warm(self) -> None:
        """Load what the first call would have to load."""
        for transport in self._transports:
            await transport.warm()

    async def aclose(self) -> None:
        """Close every connection and end what the instances started."""
        for instance in self._instances.values():
            await instance.aclose()
        for transport in self._transports:
            await transport.aclose()


def connect(
    configs: Iterable[InstanceConfig],
    *,
    policy: EgressPolicy,
    vectors: Mapping[str, VectorStore],
    wrapping: Wrapping,
    terms: Mapping[str, InstanceTerms] | None = None,
    action_webhook: str | None = None,
    transport: Transport | None = None,
    guarded: Transport | None = None,
) -> Providers:
    """The outside world of a service. Nothing is connected before it is used.

    `transport` carries calls to the operator's own base URLs, `guarded` those to URLs of documents; by
    default both are sockets, the second under the policy. `terms` are by the instances' names. Raises
    `ValueError` for a configuration that cannot work.
    """
    known = terms or {}
    transport = transport or Transport.over_sockets()
    guarded = guarded or Transport.over_sockets(policy)
    return Providers(
        instances=[build_instance(config, transport, wrapping, known.get(config.name)) for config in configs],
        vectors=vectors,
        http=CheckedHttp(guarded, policy),
        operator_http=OperatorHttp(transport),
        transports=(transport, guarded),
        action_webhook=action_webhook,
    )


def _named(name: str, known: Mapping[str, T], what: str) -> T:
    found = known.get(name)
    if found is not None:
        return found
    near = get_close_matches(name, known, n=1)
    if near:
        hint = f"did you mean {near[0]!r}?"
    elif known:
        hint = f"configured are: {', '.join(sorted(known))}"
    else:
        hint = "none is configured"
    raise PermanentError("unknown_provider", f"there is no {what} {name!r}; {hint}")
