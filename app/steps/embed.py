"""The `embed` kind: texts to vectors.

Long lists are split into what the provider takes in one call, by number and, where it bounds them, by an
estimate of the tokens; order is kept whatever comes back first. Vectors that are too many for the outputs of
a step are refused by arithmetic, before the call or after the first of several, rather than held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, Embedder, EmbedRequest, EmbedResult
from app.ports.steps import StepContext, StepOutcome
from app.steps.base import BaseKind
from app.steps.bounds import CallBound, texts_bound
from app.steps.fields import FilledText, Int, Name, TextOr
from app.steps.kind import StepConfig, Templated
from app.steps.usage import total, usage_output

CONCURRENT_BATCHES: Final = 4
MAX_TEXTS: Final = 10_000
BYTES_A_TOKEN: Final = 2
"""Fewer than nearly all texts have: English has four, code three. A call is rather too small than refused."""


NUMBER_BYTES: Final = 2
"""Fewest that a number of a vector takes as JSON, with its comma."""
LONG_VECTOR: Final = 3072
"""Where vectors so long might not fit, the first batch is asked for alone, to learn how long they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """What the vectors of one step may take."""

    texts: int
    copies: int
    """How often each stands in the outputs."""
    most: int | None
    """Bytes; None: no bound."""

    def holds(self, dimensions: int) -> bool:
        """Whether vectors so long may fit."""
        return self.most is None or self.texts * dimensions * NUMBER_BYTES * self.copies <= self.most

    def check(self, dimensions: int) -> None:
        """Raise `PermanentError` for vectors that cannot fit."""
        if not self.holds(dimensions):
            raise PermanentError(
                "too_large",
                f"{self.texts:,} vectors of {dimensions:,} numbers do not fit into the {self.most:,} bytes "
                "that outputs of a step may take; embed fewer texts at once (a 'map' over chunks of them), "
                "or raise runs.max_output_bytes",
            )


def _not_empty(value: Any) -> Any:
    if value in ("", []):
        raise PydanticCustomError("nothing_to_embed", "Input should be a text or texts to embed and is empty")
    return value


EmbedInput = Annotated[
    TextOr[Annotated[list[FilledText], Field(max_length=MAX_TEXTS)]], BeforeValidator(_not_empty)
]


class EmbedConfig(StepConfig):
    """Keys of an `embed` step."""

    provider: Templated[Name]
    """A configured provider."""
    model: Templated[Name]
    """A model, by the name that the provider knows."""
    input: Templated[EmbedInput]
    """A text, or up to 10,000 texts."""
    dimensions: Templated[Annotated[Int, Field(ge=1, le=65_536)]] | None = None
    """Numbers a vector, where the model gives a choice."""
    batch_size: Templated[Annotated[Int, Field(ge=1, le=MAX_TEXTS)]] | None = None
    """Texts a call. If absent: as many as the provider takes. Four calls are in flight together."""
    input_type: Templated[Name] | None = None
    """What the texts are for (such as `query` or `document`), where the model makes a difference."""


class EmbedKind(BaseKind):
    """Embeds a text, or a list of texts in order.

    Outputs: `vector`, `model`, `usage`, and for a list `vectors`. The first output is what the input asks
    for: a text gives one vector, a list gives the list of vectors (also as `vectors`), so that
    `output: [query_vector]` and `output: [chunk_vectors]` both name the right thing.

    Raises what the provider raises; of several failed batches, a permanent failure is reported first.
    """

    name: ClassVar[str] = "embed"
    config_model: ClassVar[type[StepConfig]] = EmbedConfig
    outputs: ClassVar[tuple[str, ...]] = ("vector", "model", "usage", "vectors")
    only_reads: ClassVar[bool] = True

    async def execute(self, config: EmbedConfig, context: StepContext) -> StepOutcome:
        """Call the provider once a batch, at most `CONCURRENT_BATCHES` at a time."""
        embedder = context.services.embedder(config.provider)
        single = isinstance(config.input, str)
        texts = [config.input] if isinstance(config.input, str) else config.input
        size = min(embedder.max_batch, config.batch_size or embedder.max_batch)
        requests = [
            EmbedRequest(
                model=config.model,
                texts=batch,
                dimensions=config.dimensions,
                input_type=config.input_type,
            )
            for batch in _batches(texts, max(size, 1), embedder.max_batch_tokens)
        ]
        room = _Room(texts=len(texts), copies=1 if single else 2, most=context.max_output_bytes)
        results = await _embed_within(room, embedder, requests, config, context.call)
        vectors = [_plain(vector) for result in results for vector in result.vectors]
        usage = total([result.usage for result in results])
        outputs: dict[str, Any] = {
            "vector": vectors[0] if single else vectors,
            "model": results[0].model,
            "usage": usage_output(usage),
        }
        if not single:
            outputs["vectors"] = vectors
        return StepOutcome(
            outputs=outputs,
            usage=usage,
            provider=config.provider,
            model=results[0].model,
            asked_model=config.model,
        )

    def bound(self, config: EmbedConfig, *, max_tokens: int | None) -> Sequence[CallBound]:
        """One call a text at most: how many go into one is the provider's to say."""
        texts = [config.input] if isinstance(config.input, str) else config.input
        return (texts_bound(config.provider, config.model, texts, calls=len(texts)),)


def _batches(texts: Sequence[str], most: int, most_tokens: int | None) -> Iterator[Sequence[str]]:
    """The texts in order, so many together at most, and with so many tokens as far as that can be told."""
    if most_tokens is None:
        yield from (texts[start : start + most] for start in range(0, len(texts), most))
        return
    start = tokens = 0
    for place, text in enumerate(texts):
        size = len(text.encode("utf-8", "surrogatepass")) // BYTES_A_TOKEN + 1
        if place > start and (place - start == most or tokens + size > most_tokens):
            yield texts[start:place]
            start, tokens = place, 0
        tokens += size
    yield texts[start:]


def _plain(vector: Sequence[float]) -> list[float]:
    return vector if isinstance(vector, list) else list(vector)


async def _embed_within(
    room: _Room, embedder: Embedder, requests: Sequence[EmbedRequest], config: EmbedConfig, call: CallContext
) -> Sequence[EmbedResult]:
    if config.dimensions is not None:
        room.check(config.dimensions)
    if len(requests) == 1:
        return [await _embed(embedder, requests[0], call)]
    if config.dimensions is not None or room.holds(LONG_VECTOR):
        return await _embed_all(embedder, list(enumerate(requests)), call)
    (first,) = await _embed_all(embedder, [(0, requests[0])], call)
    try:
        room.check(len(first.vectors[0]))
    except PermanentError as error:
        error.billed = StepOutcome(
            outputs={},
            usage=first.usage,
            provider=config.provider,
            model=first.model,
            asked_model=config.model,
        )
        raise
    return [first, *await _embed_all(embedder, list(enumerate(requests))[1:], call)]


async def _embed_all(
    embedder: Embedder, requests: Sequence[tuple[int, EmbedRequest]], call: CallContext
) -> Sequence[EmbedResult]:
    """Results in order; each request comes with its place among those of the step."""
    turns = asyncio.Semaphore(CONCURRENT_BATCHES)

    async def in_turn(number: int, request: EmbedRequest) -> EmbedResult:
        async with turns:
            # Each batch is an effect of its own, so each carries a key of its own.
            own = replace(call, idempotency_key=f"{call.idempotency_key}:{number}")
            return await _embed(embedder, request, own)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(*numbered)) for numbered in requests]
    except ExceptionGroup as failures:
        worst = _worst(failures.exceptions)
        if isinstance(worst, CallError):
            worst.unsent = False  # another batch may have been
        raise worst from None
    return [task.result() for task in tasks]


async def _embed(embedder: Embedder, request: EmbedRequest, call: CallContext) -> EmbedResult:
    result = await embedder.embed(request, call)
    if len(result.vectors) != len(request.texts):
        raise TemporaryError(
            "invalid_output",
            f"the provider returned {len(result.vectors)} vectors for {len(request.texts)} texts",
        )
    return result


def _worst(failures: Sequence[Exception]) -> Exception:
    return next((failure for failure in failures if not isinstance(failure, TemporaryError)), failures[0])
