"""The `rerank` kind: documents ordered by how well they answer a query."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import RankedDocument, RerankRequest
from app.ports.steps import StepContext, StepOutcome
from app.steps.base import BaseKind
from app.steps.bounds import CallBound, ranking_bound
from app.steps.fields import FilledText, Int, Name
from app.steps.kind import StepConfig, Templated
from app.steps.transforms.function import kind_of, look_up
from app.steps.transforms.selecting import Path
from app.steps.usage import usage_output

MAX_DOCUMENTS: Final = 10_000
TEXT_PLACES: Final = ("text", "metadata.text")
"""Where the text of an object is looked for when no `key` says it."""


class RerankConfig(StepConfig):
    """Keys of a `rerank` step."""

    provider: Templated[Name]
    """A configured provider that can rerank."""
    model: Templated[Name]
    """A model, by the name that the provider knows."""
    query: Templated[FilledText]
    """What the documents are held against."""
    documents: Templated[Annotated[list[Any], Field(max_length=MAX_DOCUMENTS)]]
    """Texts, or objects with a text in them, such as the hits of a search."""
    key: Templated[Path] | None = None
    """Where the text of an object is. If absent: at `text`, else at `metadata.text`."""
    top_n: Templated[Annotated[Int, Field(ge=1, le=MAX_DOCUMENTS)]] | None = None
    """How many results there are at most. If absent: all."""


class RerankKind(BaseKind):
    """Scores every document against the query and sorts them.

    A document is a text, or an object with its text at `key` (by default at `text`, else at
    `metadata.text`, where hits of a `vector_search` may have it).

    Outputs: `results`, best first and at most `top_n`: `[{index, score, document}]`, where `index` is the
    position in `documents` and `document` what stood there, unchanged; `model` and `usage`. Scores compare
    within one answer only. No documents is no call and no results.

    Raises what the provider raises; `PermanentError("invalid_request")` for a document without a text or
    more of them than the provider takes, `TemporaryError("invalid_output")` for a ranking that is none.
    """

    name: ClassVar[str] = "rerank"
    config_model: ClassVar[type[StepConfig]] = RerankConfig
    outputs: ClassVar[tuple[str, ...]] = ("results", "model", "usage")
    only_reads: ClassVar[bool] = True

    async def execute(self, config: RerankConfig, context: StepContext) -> StepOutcome:
        """Call the provider once."""
        reranker = context.services.reranker(config.provider)
        texts = [_text(document, number, config.key) for number, document in enumerate(config.documents)]
        if not texts:
            return StepOutcome(outputs={"results": [], "model": config.model, "usage": None})
        if len(texts) > reranker.max_documents:
            raise PermanentError(
                "invalid_request",
                f"provider {config.provider!r} ranks at most {reranker.max_documents} documents at once and "
                f"was given {len(texts)}; lower 'top_k' of the search, or take the first ones",
            )
        request = RerankRequest(model=config.model, query=config.query, documents=texts, top_n=config.top_n)
        result = await reranker.rerank(request, context.call)
        ranking = _checked(result.ranking, len(texts))[: config.top_n]
        results = [
            {"index": it.index, "score": it.score, "document": config.documents[it.index]} for it in ranking
        ]
        return StepOutcome(
            outputs={"results": results, "model": result.model, "usage": usage_output(result.usage)},
            usage=result.usage,
            provider=config.provider,
            model=result.model,
            asked_model=config.model,
        )

    def bound(self, config: RerankConfig, *, max_tokens: int | None) -> Sequence[CallBound]:
        """One call, or none without documents."""
        texts = [_text(document, number, config.key) for number, document in enumerate(config.documents)]
        if not texts:
            return ()
        return (ranking_bound(config.provider, config.model, config.query, texts),)


def _text(document: Any, number: int, key: str | None) -> str:
    if isinstance(document, str):
        text: Any = document
    elif isinstance(document, dict):
        places = TEXT_PLACES if key is None else (key,)
        found = (look_up(document, place) for place in places)
        text = next((value for value in found if isinstance(value, str)), None)
    else:
        raise PermanentError(
            "invalid_request",
            f"document {number} is {kind_of(document)}; give texts, or objects with a text in them",
        )
    if not text:
        where = "" if isinstance(document, str) else f" at {key or TEXT_PLACES[0]!r}"
        raise PermanentError(
            "invalid_request",
            f"document {number} has no text{where}; leave it out, or name where its text is with 'key'",
        )
    return str(text)


def _checked(ranking: Sequence[RankedDocument], count: int) -> list[RankedDocument]:
    """The ranking in order. Equal scores keep the order of the documents."""
    indexes = {it.index for it in ranking}
    within = all(0 <= index < count for index in indexes)
    if not within or len(indexes) != len(ranking) or not all(math.isfinite(it.score) for it in ranking):
        raise TemporaryError(
            "invalid_output", f"the provider's ranking does not fit the {count} documents it was given"
        )
    return sorted(ranking, key=lambda it: (-it.score, it.index))
