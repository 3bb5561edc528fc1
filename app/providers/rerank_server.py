"""Any server that reranks: maps in, calls, maps out.

Two shapes are spoken. `cohere`: `{model, query, documents, top_n}` → `{results: [{index,
relevance_score}]}`, as Cohere, Jina, vLLM, llama.cpp and LiteLLM have it. `tei`: `{query, texts}` →
`[{index, score}]`, as Text Embeddings Inference has it, which serves one model, reads as much of a long
text as the model can, and leaves it to the caller to take the best. Retries, limits, metrics and tracing
are not here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import SecretStr

from app.ports.errors import ErrorClass
from app.ports.models import CallContext, RankedDocument, RerankRequest, RerankResult, Usage
from app.providers.json_api import bearer, endpoint_of
from app.providers.json_format import VendorError, count, dump, text
from app.providers.rerank_format import read_ranking, rerank_body
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi

PATH: Final = "/rerank"
_TOO_LONG: Final = re.compile(
    r"too many tokens|too long|context (length|size|window)|(less|fewer) than \d+ tokens", re.IGNORECASE
)
_REFUSALS: Final = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankServerConfig:
    """One instance, named by the operator. `max_concurrency` None means unlimited.

    `max_documents` is what the server takes in one call; Text Embeddings Inference starts with 32.
    `headers` go with every request; secret ones are cut out of whatever the server says.
    """

    name: str
    base_url: str
    shape: Literal["cohere", "tei"] = "cohere"
    api_key: SecretStr | None = None
    headers: Mapping[str, str | SecretStr] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 600.0
    max_concurrency: int | None = None
    max_documents: int = 1000


class RerankServer:
    """One instance as `Reranker`."""

    def __init__(self, config: RerankServerConfig, transport: Transport) -> None:
        self.max_documents = config.max_documents
        self._shape = config.shape
        endpoint = endpoint_of(config, bearer(config.api_key), config.headers)
        self._api = VendorApi(transport, endpoint, read_error=read_error, classify=classify)

    async def rerank(self, request: RerankRequest, context: CallContext) -> RerankResult:
        """See `Reranker`. What a score means is the server's to say."""
        self._api.check_count(len(request.documents), self.max_documents, "documents")
        if not request.documents:
            return RerankResult(ranking=[], model=request.model, usage=Usage())
        if self._shape == "tei":
            body = self._api.written(tei_body, request)
            results = await self._api.post_for_list(PATH, body, context)
            return self._result(request, self._ranked(results, request, "score"), {})
        answer = await self._api.post(PATH, self._api.written(rerank_body, request), context)
        return self._result(request, self._ranked(answer.get("results"), request, "relevance_score"), answer)

    def _ranked(self, results: object, request: RerankRequest, score: str) -> Sequence[RankedDocument]:
        return self._api.read(read_ranking, results, request, score=score)

    def _result(
        self, request: RerankRequest, ranking: Sequence[RankedDocument], answer: Mapping[str, Any]
    ) -> RerankResult:
        usage = answer.get("usage")
        tokens = count(usage, "prompt_tokens")
        return RerankResult(
            ranking=ranking,
            model=text(answer, "model") or request.model,
            usage=Usage(input_tokens=count(usage, "total_tokens") if tokens is None else tokens),
        )


def tei_body(request: RerankRequest) -> bytes:
    """The body in the `tei` shape. Raises `ValueError` for what JSON cannot carry."""
    return dump({"query": request.query, "texts": list(request.documents), "truncate": True})


def read_error(answer: Mapping[str, Any]) -> VendorError | None:
    """The error an answer holds: a text, or an object with a `message`, under the names that servers use."""
    if "results" in answer:
        return None  # some servers say of a success that it is one
    for key in ("error", "message", "detail"):
        said = text(answer, key) or text(answer.get(key), "message")
        if said:
            return VendorError(message=said)
    return None


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`."""
    return "context_length" if status in _REFUSALS and _TOO_LONG.search(error.message) else None
