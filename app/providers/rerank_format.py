"""The bytes of reranking as most servers have it: a query and texts out, places and scores in. No I/O.

Vendors differ in paths, limits and in what they call a score; the adapters say that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from app.ports.models import RankedDocument, RerankRequest
from app.providers.json_format import Malformed, dump, objects


def rerank_body(request: RerankRequest) -> bytes:
    """`{model, query, documents, top_n}`. Raises `ValueError` for what JSON cannot carry."""
    body: dict[str, Any] = {
        "model": request.model,
        "query": request.query,
        "documents": list(request.documents),
    }
    if request.top_n is not None:
        # Some servers refuse to be asked for more than they were given.
        body["top_n"] = min(request.top_n, len(request.documents))
    return dump(body)


def read_ranking(results: object, request: RerankRequest, *, score: str) -> list[RankedDocument]:
    """`[{index, <score>}]` as a ranking: best first, equal scores in the order of the documents.

    Raises `Malformed` for places that do not exist or come twice, scores that are no numbers, and fewer
    results than were asked for.
    """
    count = len(request.documents)
    wanted = count if request.top_n is None else min(request.top_n, count)
    found = [_place(result, count, score) for result in objects(results)]
    if len({place.index for place in found}) != len(found):
        raise Malformed("it ranks a document twice")
    if len(found) < wanted:
        raise Malformed(f"it ranks {len(found)} documents instead of {wanted}")
    found.sort(key=lambda place: (-place.score, place.index))
    return found[:wanted]


def _place(result: Mapping[str, Any], count: int, key: str) -> RankedDocument:
    index, score = result.get("index"), result.get(key)
    if type(index) is not int or not 0 <= index < count:
        raise Malformed(f"it ranks a document that it was not given ({index!r})")
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise Malformed(f"document {index} has no {key!r} that is a number")
    return RankedDocument(index=index, score=float(score))
