"""A document's text, in YAML or JSON, to plain JSON values with the place of each.

Nothing is built from a text beyond the limits. Places are not kept while loading: most documents are
right, and for those that are not the text is walked once more.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Literal

import orjson

from app.dsl.json_scan import decode_string, line_and_column, scan
from app.dsl.limits import LoadLimits
from app.dsl.strict_json import faults, looks_plain, syntax_problem
from app.dsl.yaml_reader import MOST_PROBLEMS, Place, read_yaml
from app.ports.errors import DefinitionInvalid
from app.ports.problems import Problem, pointer

Format = Literal["auto", "yaml", "json"]


class LoadedDocument:
    """A value and, where it came from a text, the way back to the text. Immutable to its users."""

    __slots__ = ("_limits", "_places", "_text", "_written_in", "value")

    def __init__(
        self,
        value: Any,
        *,
        text: str | None = None,
        written_in: Literal["yaml", "json"] = "json",
        limits: LoadLimits | None = None,
    ) -> None:
        self.value = value
        self._text = text
        self._written_in = written_in
        self._limits = limits or LoadLimits()
        self._places: dict[str, Place] | None = None

    def locate(self, pointer: str) -> tuple[int, int] | None:
        """Line and column (from 1) of a member's key, or of a list's item.

        Where the pointer leads nowhere the nearest ancestor is meant; None without a text.
        """
        places = self._all_places()
        while pointer and pointer not in places:
            pointer = pointer.rpartition("/")[0]
        place = places.get(pointer)
        return (place.line, place.column) if place else None

    def written(self, pointer: str) -> str | None:
        """A scalar as its author wrote it (`1.10`, not 1.1); None without a text or for a container."""
        place = self._all_places().get(pointer)
        return place.text if place else None

    def _all_places(self) -> dict[str, Place]:
        if self._places is None:
            self._places = {}
            if self._text is not None and self._written_in == "yaml":
                read_yaml(self._text, self._limits, self._places)
            elif self._text is not None:
                self._places = _json_places(self._text)
        return self._places


def load_document(
    source: bytes | str, *, limits: LoadLimits | None = None, format: Format = "auto"
) -> LoadedDocument:
    """Load one document. Raises `DefinitionInvalid` with every problem that can be told at once.

    "auto" takes a text that begins with a bracket as JSON if it is that, and everything else as YAML.
    """
    limits = limits or LoadLimits()
    body = source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
    if len(body) > limits.max_bytes:
        detail = f"the document is longer than {limits.max_bytes} bytes"
        raise DefinitionInvalid([Problem(pointer="", detail=detail, hint="split the document")])
    body = body.removeprefix(b"\xef\xbb\xbf")
    if format == "json" or (format == "auto" and body.lstrip()[:1] in (b"{", b"[")):
        try:
            return _load_json(body, orjson.loads(body), limits)
        except orjson.JSONDecodeError as error:
            if format == "json":
                raise DefinitionInvalid([syntax_problem(body, error)]) from None
    text = _decoded(body)
    return LoadedDocument(read_yaml(text, limits), text=text, written_in="yaml", limits=limits)


def _load_json(body: bytes, value: Any, limits: LoadLimits) -> LoadedDocument:
    text = body.decode()
    if not looks_plain(body, value, max_depth=limits.max_depth):
        found = islice(faults(text, max_depth=limits.max_depth), MOST_PROBLEMS)
        problems = [fault.problem(text) for fault in found]
        if problems:
            raise DefinitionInvalid(problems)
    at_most = 1 + body.count(b",") + body.count(b":") + body.count(b"{") + body.count(b"[")
    if (
        at_most > limits.max_values
        and sum(_weight(member.parts) for member in scan(text)) > limits.max_values
    ):
        detail = f"more than {limits.max_values} keys and values"
        raise DefinitionInvalid([Problem(pointer="", detail=detail, hint="split the document")])
    return LoadedDocument(value, text=text, written_in="json", limits=limits)


def _weight(parts: tuple[str | int, ...]) -> int:
    """Keys count beside their values."""
    return 2 if parts and isinstance(parts[-1], str) else 1


def _json_places(text: str) -> dict[str, Place]:
    places = {}
    line, line_start, seen = 1, 0, 0
    for member in scan(text):
        line += text.count("\n", seen, member.start)
        line_start = text.rfind("\n", seen, member.start) + 1 or line_start
        seen = member.start
        written = decode_string(member.text) if member.text.startswith('"') else member.text
        places[pointer(*member.parts)] = Place(
            line, member.start - line_start + 1, None if written in ("{", "[") else written
        )
    return places


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        before = body[: error.start].decode()
        line, column = line_and_column(before, len(before))
        problem = Problem(
            pointer="", detail="not UTF-8 text", hint="encode it as UTF-8", line=line, column=column
        )
        raise DefinitionInvalid([problem]) from None
