"""Every transform function by the name that documents use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.steps.transforms import (
    aggregating,
    answers,
    chunking,
    filtering,
    grouping,
    matching,
    merging,
    ordering,
    selecting,
    texts,
    voting,
)
from app.steps.transforms.function import NoParameters, Transform

TRANSFORMS: Final[Mapping[str, Transform]] = {
    "merge": Transform(parameters=NoParameters, apply=merging.merge),
    "concat": Transform(parameters=merging.Separator, apply=merging.concat),
    "join": Transform(parameters=merging.Separator, apply=merging.join),
    "zip": Transform(parameters=NoParameters, apply=merging.zip_fields),
    "filter": Transform(parameters=filtering.Criterion, apply=filtering.filter_items),
    "pick": Transform(parameters=selecting.Keys, apply=selecting.pick),
    "omit": Transform(parameters=selecting.Keys, apply=selecting.omit),
    "rename": Transform(parameters=selecting.NewKeys, apply=selecting.rename),
    "map": Transform(parameters=selecting.Mapped, apply=selecting.map_items),
    "get": Transform(parameters=selecting.Place, apply=selecting.get),
    "default": Transform(parameters=selecting.Instead, apply=selecting.default),
    "slice": Transform(parameters=selecting.Range, apply=selecting.slice_items),
    "limit": Transform(parameters=selecting.Limit, apply=selecting.limit),
    "sort": Transform(parameters=ordering.Order, apply=ordering.sort),
    "unique": Transform(parameters=ordering.Key, apply=ordering.unique),
    "flatten": Transform(parameters=ordering.Depth, apply=ordering.flatten),
    "group_by": Transform(parameters=grouping.GroupKey, apply=grouping.group_by),
    "batch": Transform(parameters=grouping.BatchSize, apply=grouping.batch),
    "entries": Transform(parameters=NoParameters, apply=grouping.entries),
    "count": Transform(parameters=NoParameters, apply=ordering.count),
    "aggregate": Transform(parameters=aggregating.Aggregate, apply=aggregating.aggregate),
    "sum": Transform(parameters=aggregating.Values, apply=aggregating.total),
    "average": Transform(parameters=aggregating.Values, apply=aggregating.average),
    "min": Transform(parameters=aggregating.Values, apply=aggregating.smallest),
    "max": Transform(parameters=aggregating.Values, apply=aggregating.largest),
    "vote": Transform(parameters=voting.Ballot, apply=voting.vote),
    "split": Transform(parameters=texts.Cut, apply=texts.split),
    "chunk": Transform(parameters=chunking.Pieces, apply=chunking.chunk),
    "replace": Transform(parameters=texts.Replacement, apply=texts.replace),
    "regex": Transform(
        parameters=matching.Pattern,
        apply=matching.regex,
        problem=matching.pattern_problem,
        linear=False,
    ),
    "parse_json": Transform(parameters=answers.Fallback, apply=answers.parse_json),
    "extract": Transform(parameters=answers.Wanted, apply=answers.extract),
    "to_json": Transform(parameters=texts.Layout, apply=texts.to_json),
    "digest": Transform(parameters=texts.Prefix, apply=texts.digest),
    "template": Transform(parameters=texts.TemplateText, apply=texts.template, takes_inputs=False),
}
