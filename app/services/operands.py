"""What a condition was about: its source as written, and the data that it reads.

The values are looked up in the run's data, nothing is rendered or evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.engines.rundata import RunData
from app.services.excerpts import excerpt
from app.templating.compiler import Compiled
from app.templating.names import Reference

LONGEST_SOURCE: Final = 2_000
VALUE_SIZE: Final = 500
"""Characters of an operand."""
MOST_OPERANDS: Final = 32

_ABSENT: Final = object()


def condition_told(data: RunData, path: str, written: Any, compiled: Compiled | None) -> Mapping[str, Any]:
    """A condition as JSON: `{source, operands: [{name, value, present, cut}], …}`.

    `path` is the step whose names it sees, `written` the condition in the document.
    """
    source = excerpt(written, size=LONGEST_SOURCE)
    names = data.names_of(path)
    references = sorted(compiled.references if compiled is not None else (), key=_text)
    return {
        "source": source.value,
        "operands": [_operand(reference, names) for reference in references[:MOST_OPERANDS]],
        "operands_omitted": max(0, len(references) - MOST_OPERANDS),
    }


def _operand(reference: Reference, names: Mapping[str, Any]) -> dict[str, Any]:
    value: Any = names.get(reference.root, _ABSENT)
    for part in reference.parts:
        value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    present = value is not _ABSENT
    shown = excerpt(value if present else None, size=VALUE_SIZE)
    return {"name": _text(reference), "value": shown.value, "present": present, "cut": shown.cut}


def _text(reference: Reference) -> str:
    return ".".join((reference.root, *reference.parts))
