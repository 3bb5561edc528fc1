"""What most of several answers say: vote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from app.steps.fields import Flag, Number
from app.steps.kind import Templated
from app.steps.transforms.function import MISSING, Parameters, identity, items_of, look_up
from app.steps.transforms.selecting import Path

_AROUND: Final = " \t\r\n.,;:!?\"'`*_()[]\u2018\u2019\u201c\u201d\u00ab\u00bb\u3002\uff01\uff1f"
"""What models put around a one-word answer."""


class Ballot(Parameters):
    """What is compared, and how many have to agree."""

    key: Templated[Path] | None = None
    exact: Templated[Flag] = False
    quorum: Templated[Annotated[Number, Field(gt=0, le=1)]] | None = None
    default: Any = None


def vote(inputs: Sequence[Any], parameters: Ballot) -> dict[str, Any]:
    """The value that most items have: `{winner, count, total, share, tie, tally}`.

    Every item is one vote for its value at `key` (or for itself); null and missing values are no votes.
    Texts that differ only in case, or in white space and punctuation around them, are one value, unless
    `exact`. `tally` is `[{value, count}]`, most votes first, each value as it was first given; `share` is
    the winner's part of `total`. With several in front (`tie`) the one that was given first wins. Below
    the share `quorum`, and without votes, `winner` is `default` (null).
    """
    found = [look_up(item, parameters.key) for item in items_of(inputs)]
    tally: dict[Any, dict[str, Any]] = {}
    for value in found:
        if value is not MISSING and value is not None:
            entry = tally.setdefault(_mark(value, exact=parameters.exact), {"value": value, "count": 0})
            entry["count"] += 1
    ranked = sorted(tally.values(), key=lambda entry: entry["count"], reverse=True)
    total = sum(entry["count"] for entry in ranked)
    most = ranked[0]["count"] if ranked else 0
    share = most / total if total else 0.0
    elected = total > 0 and share >= (parameters.quorum or 0.0)
    return {
        "winner": ranked[0]["value"] if elected else parameters.default,
        "count": most,
        "total": total,
        "share": share,
        "tie": len(ranked) > 1 and ranked[1]["count"] == most,
        "tally": ranked,
    }


def _mark(value: Any, *, exact: bool) -> Any:
    if exact or not isinstance(value, str):
        return identity(value)
    return identity(value.strip(_AROUND).casefold() or value.strip())
