"""Where settings come from: variables and a YAML file, in groups, as yet unchecked.

What pydantic-settings says in words of its own, or passes over, is an error here: a variable that should
hold JSON and does not, and a value that stands where a source before it has a group. Messages say what to
do and never repeat a value, which may be a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, SettingsError

from app.dsl.loader import load_document
from app.ports.errors import DefinitionInvalid
from app.steps.transforms.function import kind_of

CONFIG_VARIABLE: Final = "ORCHESTRATOR_CONFIG"
Source = tuple[str, Mapping[str, Any]]
"""What a source is called, and what it says."""


class Environment(EnvSettingsSource):
    """What the variables of this process say. Calling it raises `ValueError` with what to do."""

    def __call__(self) -> dict[str, Any]:
        """See the base."""
        try:
            return super().__call__()
        except SettingsError as error:
            raise ValueError(str(error.__cause__ or error)) from None

    def prepare_field_value(
        self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool
    ) -> Any:
        """See the base."""
        try:
            prepared = super().prepare_field_value(field_name, field, value, value_is_complex)
        except json.JSONDecodeError as error:
            raise ValueError(_no_json(*self._held(field_name, error.doc), field)) from None
        if get_origin(field.annotation) is dict and isinstance(prepared, Mapping):
            # an instance that is no JSON: the base lets it pass
            texts = ((name, said) for name, said in prepared.items() if isinstance(said, str))
            if (broken := next(texts, None)) is not None:
                name, said = broken
                variable = f"{self.env_prefix}{field_name}{self.env_nested_delimiter}{name}".upper()
                raise ValueError(_no_json(variable, said, field))
        return prepared

    def _held(self, field_name: str, text: str) -> tuple[str, str]:
        """The variable of a field that holds a text, and the text."""
        begin = f"{self.env_prefix}{field_name}".lower()
        holding = (name for name, held in self.env_vars.items() if held == text and name.startswith(begin))
        return next(holding, begin).upper(), text


def _no_json(variable: str, text: str, field: FieldInfo) -> str:
    group = field.annotation
    if isinstance(group, type) and issubclass(group, BaseModel) and not text.lstrip().startswith("{"):
        one = next(iter(group.model_fields)).upper()
        return f"{variable} is a group; set what it holds, such as {variable}__{one}, or write a JSON object"
    example = 'write an object such as {"name": "value"}'
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"character {error.colno}"
        return f"{variable} is no JSON: {error.msg.removesuffix(' at')} at {place}; {example}"
    return f"{variable} should be a JSON object; {example}"


def from_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML file. Raises `ValueError` with what to do."""
    named = f"the file {str(path)!r} of {CONFIG_VARIABLE}"
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{named} cannot be read: {error.strerror}") from error
    if not any(line.strip() and not line.lstrip().startswith(b"#") for line in source.splitlines()):
        return {}
    try:
        content = load_document(source, format="yaml").value
    except DefinitionInvalid as error:
        first = error.problems[0]
        place = f" (line {first.line}, column {first.column})" if first.line else ""
        # what stands at a place may be a secret; only what the file calls it is repeated
        detail = re.sub(r"^'[^']*' is (?=an integer|no number)", "the value is ", first.detail)
        detail = re.sub(r"^the (tag|alias|anchor) '[^']*'", r"the \1", detail)
        raise ValueError(f"{named} cannot be used{place}: {detail}; {first.hint}") from None
    if isinstance(content, dict | None):
        return content or {}
    raise ValueError(f"{named} must hold groups such as server: {{…}}")


def check_shapes(sources: Sequence[Source]) -> None:
    """Raise `ValueError` for a value that a group of an earlier source would replace in silence."""
    for place, (_, upper) in enumerate(sources):
        for name, lower in sources[place + 1 :]:
            for path, value in _replaced(upper, lower):
                where = ".".join(path)
                raise ValueError(f"{where} should be an object and is {kind_of(value)} in the {name}")


def _replaced(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """Paths and values in `lower` where `upper` has a group."""
    for key, group in upper.items():
        if not isinstance(group, Mapping) or key not in lower:
            continue
        if isinstance(lower[key], Mapping):
            yield from (([key, *path], value) for path, value in _replaced(group, lower[key]))
        else:
            yield [key], lower[key]
