"""What is put around adapters: the guard, metrics and tracing, the same way for every vendor.

From the outside in: guard (bounds and circuit breaker), metrics and tracing, adapter. So the time that a
call waits for its turn is not counted as the vendor's, and a call that was refused is not counted at all.
What calls nobody is bounded, but has no breaker.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from app.observability.tracing import Tracer
from app.ports.provider_status import Bounds
from app.ports.vectors import VectorStore
from app.providers.breaker import BreakerPolicy
from app.providers.guard import NO_BOUNDS, Clocks, Guard, GuardRecorder, GuardTerms
from app.providers.guarded import GuardedChat, GuardedEmbedder, GuardedReranker
from app.providers.guarded_vectors import GuardedVectors
from app.providers.instances import VENDORS, Instance, InstanceConfig
from app.providers.metered import CallRecorder, Meter, MeteredChat, MeteredEmbedder, MeteredReranker
from app.providers.metered_vectors import MeteredVectors, VectorRecorder
from app.providers.transport import Transport

CLOCKS: Final = Clocks(monotonic=time.monotonic, now=time.time)


class Recording(CallRecorder, VectorRecorder, GuardRecorder, Protocol):
    """All that the wrappers count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceTerms:
    """What the operator said of an instance or a database that its adapter need not know."""

    vendor: str = ""
    bounds: Bounds = NO_BOUNDS
    models: Mapping[str, Bounds] = field(default_factory=dict)
    """Bounds on single models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapping:
    """What goes around every adapter. `breaker` None: nothing has one."""

    recorder: Recording
    tracer: Tracer
    breaker: BreakerPolicy | None = None
    clocks: Clocks = CLOCKS

    def guard(self, name: str, terms: InstanceTerms, *, what: str = "", breaks: bool = True) -> Guard:
        """Raises `ValueError` for bounds that cannot work."""
        breaker = self.breaker if breaks else None
        within = GuardTerms(bounds=terms.bounds, models=terms.models, breaker=breaker)
        return Guard(name, within, self.recorder, self.clocks, what=what)

    def vectors(self, store: VectorStore, name: str) -> VectorStore:
        """A database whose calls are observed, and nothing else."""
        return MeteredVectors(store, name, self.recorder, self.tracer)

    def guarded_vectors(self, store: VectorStore, guard: Guard) -> VectorStore:
        """A database behind a guard, its calls observed."""
        return GuardedVectors(self.vectors(store, guard.name), guard)


def build_instance(
    config: InstanceConfig, transport: Transport, wrapping: Wrapping, terms: InstanceTerms | None = None
) -> Instance:
    """One instance with everything around it; without terms, its config says how many calls at once.

    Raises `ValueError` for a configuration that cannot work (base URL, bounds).
    """
    terms = terms or InstanceTerms()
    if terms.bounds.max_concurrency is None:
        bounds = replace(terms.bounds, max_concurrency=config.max_concurrency)
        terms = replace(terms, bounds=bounds)
    bare = VENDORS[type(config)](config, transport)
    guard = wrapping.guard(bare.name, terms, breaks=not bare.calls_nobody)
    meter = Meter(bare.name, wrapping.recorder, wrapping.tracer)
    embedder = MeteredEmbedder(bare.embedder, meter) if bare.embedder else None
    reranker = MeteredReranker(bare.reranker, meter) if bare.reranker else None
    inside = bare.embeds_in_process
    return replace(
        bare,
        vendor=terms.vendor,
        guard=guard,
        chat=GuardedChat(MeteredChat(bare.chat, meter), guard) if bare.chat else None,
        embedder=embedder if embedder is None or inside else GuardedEmbedder(embedder, guard),
        reranker=reranker if reranker is None or inside else GuardedReranker(reranker, guard),
    )
