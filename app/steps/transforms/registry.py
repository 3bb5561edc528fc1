"""Every transform function by the name that documents use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.steps.transforms import chunking, filtering, matching, merging, ordering, selecting, texts
from app.steps.transforms.function import NoParameters, Transform

TRANSFORMS: Final[Mapping[str, Transform]] = {
    "merge": Transform(parameters=NoParameters, apply=merging.merge),
    "concat": Transform(parameters=merging.Separator, apply=merging.concat),
    "join": Transform(parameters=merging.Separator, apply=merging.join),
    "zip": Transform(parameters=NoParameters, apply=merging.zip_fields),
    "filter": Transform(parameters=filtering.Criterion, apply=filtering.filter_items),
    "pick": Transform(parameters=selecting.Keys, apply=selecting.pick),
    "map": Transform(parameters=selecting.Mapped, apply=selecting.map_items),
    "slice": Transform(parameters=selecting.Range, apply=selecting.slice_items),
    "sort": Transform(parameters=ordering.Order, apply=ordering.sort),
    "unique": Transform(parameters=ordering.Key, apply=ordering.unique),
    "flatten": Transform(parameters=ordering.Depth, apply=ordering.flatten),
    "count": Transform(parameters=NoParameters, apply=ordering.count),
    "split": Transform(parameters=texts.Cut, apply=texts.split),
    "chunk": Transform(parameters=chunking.Pieces, apply=chunking.chunk),
    "regex": Transform(parameters=matching.Pattern, apply=matching.regex, problem=matching.pattern_problem),
    "parse_json": Transform(parameters=NoParameters, apply=texts.parse_json),
    "to_json": Transform(parameters=texts.Layout, apply=texts.to_json),
    "digest": Transform(parameters=texts.Prefix, apply=texts.digest),
    "template": Transform(parameters=texts.TemplateText, apply=texts.template, takes_inputs=False),
}
