"""Two rankings of one index as one: relative score fusion.

Each ranking's scores are moved and scaled so that its best candidate has 1 and its last one 0 (1 for all
where they are equal), and a record's score is `alpha` times that of the vectors plus `1 - alpha` times that
of the words; a record that is no candidate of a ranking has 0 there. So what counts is by how much a record
is ahead, not only its place. The formula is that of Weaviate's `relativeScoreFusion` (hybrid search, since
version 1.20). With `alpha` 1 the vectors decide alone, with 0 the words, and only their candidates are
found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

LEAST_CANDIDATES: Final = 100
"""How many candidates each ranking has at least, where there are so many."""

Ranking = Sequence[tuple[float, str]]
"""(score, id), best first."""


def candidates_for(top_k: int) -> int:
    """How many candidates each ranking brings."""
    return max(top_k, LEAST_CANDIDATES)


def fused(by_vector: Ranking, by_words: Ranking, *, alpha: float, top_k: int) -> list[tuple[float, str]]:
    """The best `top_k` of both, best first, equal ones by id. Scores are 0 to 1."""
    scores: dict[str, float] = {}
    for weight, ranking in ((alpha, by_vector), (1.0 - alpha, by_words)):
        if weight:
            for record_id, score in _relative(ranking).items():
                scores[record_id] = scores.get(record_id, 0.0) + weight * score
    ranked = sorted((-score, record_id) for record_id, score in scores.items())
    return [(-negated, record_id) for negated, record_id in ranked[:top_k]]


def _relative(ranking: Ranking) -> Mapping[str, float]:
    if not ranking:
        return {}
    best, last = ranking[0][0], ranking[-1][0]
    if best == last:
        return {record_id: 1.0 for _, record_id in ranking}
    return {record_id: (score - last) / (best - last) for score, record_id in ranking}
