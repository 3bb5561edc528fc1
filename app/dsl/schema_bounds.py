"""Whether a caller's JSON Schema is cheap enough to apply to every submission.

References must stay inside the schema and may not recurse, and the schema with its references written
out has a limited number of subschemas. Applying what passes is linear in the value: without this, thirty
lines of `allOf` and `$ref` keep a validator busy for hours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from app.ports.problems import Problem, pointer

MOST_SUBSCHEMAS: Final = 10_000
DEEPEST_NESTING: Final = 200

_REFUSED: Final = frozenset(
    {"$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary"}
)
_PLAIN_DATA: Final = frozenset({"default", "const", "enum", "examples"})
_OF_NAMES: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_IN_PROGRESS: Final = -1

Parts = tuple[str | int, ...]


class SchemaBounds:
    """One walk over a schema that passed the meta-schema; `problems` has what is refused."""

    __slots__ = ("_root", "_sizes", "problems")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.problems: list[Problem] = []
        self._root = schema
        self._sizes: dict[int, int] = {}
        size = self._size(schema, (), 0)
        if size > MOST_SUBSCHEMAS and not self.problems:
            self._refuse(
                (),
                f"the schema has more than {MOST_SUBSCHEMAS} subschemas once its references are written out",
                "use fewer references to schemas that hold references",
            )

    def _size(self, schema: Any, parts: Parts, depth: int) -> int:
        """Subschemas in and under a schema, references included; 0 where something was refused."""
        if not isinstance(schema, Mapping):
            return 1
        known = self._sizes.get(id(schema))
        if known == _IN_PROGRESS:
            self._refuse(parts, "the schema refers to itself", "write the levels out that you need")
            return 0
        if known is not None:
            return known
        if depth > DEEPEST_NESTING:
            self._refuse(
                parts, f"more than {DEEPEST_NESTING} references and levels deep", "flatten the schema"
            )
            return 0
        self._sizes[id(schema)] = _IN_PROGRESS
        size = 1 + sum(self._size(child, place, depth + 1) for child, place in _children(schema, parts))
        for keyword in _REFUSED & schema.keys():
            self._refuse((*parts, keyword), f"{keyword!r} is not accepted here", "use '$ref' and '$defs'")
        if parts and isinstance(schema.get("$id"), str):
            self._refuse((*parts, "$id"), "'$id' is accepted at the top only", "use '$ref' and '$defs'")
        if isinstance(schema.get("$ref"), str):
            size += self._referred(schema["$ref"], (*parts, "$ref"), depth)
        size = min(size, MOST_SUBSCHEMAS + 1)
        self._sizes[id(schema)] = size
        return size

    def _referred(self, reference: str, parts: Parts, depth: int) -> int:
        if reference != "#" and not reference.startswith("#/"):
            self._refuse(parts, f"{reference[:100]!r} leaves the schema", "refer to '#/$defs/<name>'")
            return 0
        target: Any = self._root
        for name in reference.split("/")[1:]:
            key = unquote(name).replace("~1", "/").replace("~0", "~")
            target = target.get(key) if isinstance(target, Mapping) else _item(target, key)
            if target is None:
                self._refuse(parts, f"{reference[:100]!r} does not exist", "define it under '$defs'")
                return 0
        return self._size(target, parts, depth + 1)

    def _refuse(self, parts: Parts, detail: str, hint: str) -> None:
        self.problems.append(Problem(pointer=pointer(*parts), detail=detail, hint=hint))


def _children(schema: Mapping[str, Any], parts: Parts) -> Iterator[tuple[Any, Parts]]:
    for keyword, value in schema.items():
        if keyword in _PLAIN_DATA:
            continue
        if keyword in _OF_NAMES and isinstance(value, Mapping):
            for name, child in value.items():
                yield child, (*parts, keyword, name)
        elif isinstance(value, Mapping):
            yield value, (*parts, keyword)
        elif isinstance(value, list):
            for number, child in enumerate(value):
                if isinstance(child, Mapping):
                    yield child, (*parts, keyword, number)


def _item(value: Any, key: str) -> Any:
    if isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
        return value[int(key)]
    return None
