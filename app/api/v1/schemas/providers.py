"""Instances of vendors on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from app.api.v1.schemas.runs import ResponseModel


class Limits(ResponseModel):
    """Bounds on calls; null is no bound."""

    max_concurrency: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None


class Breaker(ResponseModel):
    """A circuit breaker: open, calls are refused; half-open, one at a time finds out."""

    state: Literal["closed", "half_open", "open"]
    retry_after_seconds: Annotated[float, Field(description="Until the next call is let through")]


class LastFailure(ResponseModel):
    """How the latest call that failed did."""

    error_class: str
    at: datetime


class Calls(ResponseModel):
    """How calls fare, since the process started."""

    breaker: Annotated[Breaker | None, Field(description="Null where there is none")]
    in_flight: int
    waiting: Annotated[int, Field(description="For room within the limits")]
    calls: Annotated[int, Field(description="That were begun")]
    last_failure: LastFailure | None


class ModelCalls(Calls):
    """Calls to one model."""

    model: Annotated[str, Field(description="`other` stands for all past the first hundred")]
    limits: Annotated[Limits, Field(description="Its own, beside those of the instance")]


class Provider(ResponseModel):
    """An instance of a model vendor."""

    name: str
    vendor: str
    state: Annotated[
        Literal["configured", "keyless"],
        Field(description="`keyless`: its vendor answers nobody without a key, and it has none"),
    ]
    operations: list[Literal["chat", "embed", "rerank"]]
    limits: Limits
    models: Annotated[list[ModelCalls], Field(description="Those with limits of their own or called so far")]


class Database(ResponseModel):
    """A vector database. `calls` is null for the embedded one, which calls nobody."""

    name: str
    vendor: str
    operations: list[Literal["search", "upsert", "delete", "hybrid"]]
    limits: Limits
    calls: Calls | None


class ProviderList(ResponseModel):
    """What the operator configured, by name."""

    providers: list[Provider]
    databases: list[Database]
