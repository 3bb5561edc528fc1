"""What can be told of the instances of vendors: what they do, what bounds them and how they fare.

Counts are of this process, since it started. What does not belong here: keys, URLs, and anything of
prompts and answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from app.ports.errors import ErrorClass

BreakerState = Literal["closed", "half_open", "open"]
Operation = Literal["chat", "embed", "rerank", "search", "upsert", "delete", "hybrid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Bounds on calls; None is no bound."""

    max_concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatus:
    """A circuit breaker. `retry_after` is the time to the next probe in seconds, 0 while it is closed."""

    state: BreakerState
    retry_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFailure:
    """How the latest call that failed did. `at` is in epoch seconds."""

    error_class: ErrorClass
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsStatus:
    """Calls to one model, or to a database (`name` is empty then). `breaker` None: it has none."""

    name: str
    breaker: BreakerStatus | None
    bounds: Bounds
    in_flight: int
    waiting: int
    calls: int
    last_failure: LastFailure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """One instance of a vendor of models, or a vector database; calls by model, those that were called."""

    name: str
    vendor: str
    operations: tuple[Operation, ...]
    bounds: Bounds
    calls: Sequence[CallsStatus]


class ProviderStatuses(Protocol):
    """Tells of what is configured, as it is at this moment."""

    def models(self) -> Sequence[ProviderStatus]:
        """The instances of vendors of models, by name."""
        ...

    def databases(self) -> Sequence[ProviderStatus]:
        """The vector databases, by name."""
        ...
