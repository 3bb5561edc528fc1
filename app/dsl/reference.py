"""The tables of the language reference, made of the models that check documents.

`python -m app.dsl.reference` writes them anew into `docs/workflows.md`: whatever stands between
`<!-- generated: NAME -->` and `<!-- end -->`. A name is that of a step kind, of `step` and `workflow`, or of
a key of these that holds an object. What is said between the tables is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.dsl.document import (
    BudgetDocument,
    CacheDocument,
    ConcurrencyDocument,
    DefaultsDocument,
    OnErrorDocument,
    StepDocument,
    WorkflowDocument,
)
from app.dsl.loader import load_document
from app.dsl.retry import RetryDocument
from app.steps.control import STEP
from app.steps.kind import TEMPLATE_PATTERN
from app.steps.llm_config import FallbackConfig, OnInvalidConfig
from app.steps.registry import CONTROL_KINDS, STEP_KINDS
from app.steps.vector_search import HybridConfig

WORKFLOW: Final = "workflow document"
STEP_KEYS: Final = "step"
OBJECTS: Final[Mapping[str, type[BaseModel]]] = {
    "retry": RetryDocument,
    "cache": CacheDocument,
    "on_error": OnErrorDocument,
    "concurrency": ConcurrencyDocument,
    "budget": BudgetDocument,
    "defaults": DefaultsDocument,
    "on_invalid": OnInvalidConfig,
    "fallbacks": FallbackConfig,
    "hybrid": HybridConfig,
}
"""Keys that hold an object, or a list of them."""
CONDITIONS: Final = frozenset({"condition", "until"})
NOTHING: Final = "\N{EN DASH}"
_PART: Final = re.compile(r"(<!-- generated: (?P<name>[a-z_ ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_ENDINGS: Final = {".yaml", ".json"}


@dataclass(frozen=True, slots=True)
class Table:
    """The keys of one object. `outputs` are those of a step kind, None for anything else."""

    models: tuple[type[BaseModel], ...]
    expressions: Collection[str] = ()
    outputs: tuple[str, ...] | None = None


def tables() -> dict[str, Table]:
    """Every table by its name."""
    found = {WORKFLOW: Table((WorkflowDocument,)), STEP_KEYS: Table((StepDocument,), CONDITIONS)}
    found |= {name: Table((model,)) for name, model in OBJECTS.items()}
    for name, kind in STEP_KINDS.items():
        found[name] = Table((kind.config_model,), kind.expressions, kind.outputs)
    for name, control in CONTROL_KINDS.items():
        evaluated = control.expressions | (CONDITIONS & control.blocks_model.model_fields.keys())
        found[name] = Table((control.config_model, control.blocks_model), evaluated, control.outputs)
    return found


# --- examples -----------------------------------------------------------------------------------------


class Examples:
    """Where each key is shown: the first of the documents that has it, those of folders within last."""

    def __init__(self, folder: Path, *, link: str) -> None:
        self._link = link
        self._first: dict[tuple[str, str], str] = {}
        files = (path for path in folder.rglob("*") if path.suffix in _ENDINGS)
        for file in sorted(files, key=lambda path: (len(path.parts), path)):
            name = file.relative_to(folder).as_posix()
            document = load_document(file.read_bytes()).value
            for table, key in _shown(document):
                self._first.setdefault((table, key), name)

    def of(self, table: str, key: str) -> str:
        """A link to the example of a key, or a dash."""
        name = self._first.get((table, key))
        return NOTHING if name is None else f"[{Path(name).stem}]({self._link}/{name})"


def _shown(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The keys that a document has, each with the table it belongs to."""
    yield from ((WORKFLOW, key) for key in document)
    yield from _within_keys(document)
    yield from _within_keys(document.get("defaults", {}))
    pending: list[Any] = [document.get(key) for key in ("steps", "on_failure", "finally")]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
            if "id" in value and "type" in value:
                yield from ((STEP_KEYS, key) for key in value)
                yield from ((str(value["type"]), key) for key in value)
                yield from _within_keys(value)
        elif isinstance(value, list):
            pending.extend(value)


def _within_keys(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in OBJECTS.keys() & value.keys():
        held = value[key] if isinstance(value[key], list) else [value[key]]
        yield from ((key, inner) for one in held if isinstance(one, dict) for inner in one)


# --- tables -------------------------------------------------------------------------------------------


def written(name: str, table: Table, examples: Examples) -> str:
    """A table in Markdown, and the outputs of a kind under it."""
    rows = ["| key | value | default | meaning | example |", "|---|---|---|---|---|"]
    for model in table.models:
        properties = model.model_json_schema()
        for key, field in model.model_fields.items():
            shown = field.alias or key
            schema = properties["properties"][shown]
            is_expression = shown in table.expressions
            value = "expression" if is_expression else value_of(schema, properties.get("$defs", {}))
            meaning = " ".join((field.description or "").split())
            cells = [f"`{shown}`", value, default_of(field), meaning, examples.of(name, shown)]
            rows.append("| " + " | ".join(cells) + " |")
    keys = "\n".join(rows) + "\n"
    return keys if table.outputs is None else f"{keys}\n{_outputs(table.outputs)}\n"


def _outputs(names: tuple[str, ...]) -> str:
    listed = ", ".join(f"`{name}`" for name in names)
    return f"Outputs, in order: {listed}." if names else "No outputs of its own."


def default_of(field: FieldInfo) -> str:
    """What holds if the key is absent."""
    if field.is_required():
        return "required"
    value = field.default
    if value is None or not isinstance(value, (str, int, float)):
        return NOTHING
    return f"`{value}`" if isinstance(value, str) else f"`{orjson.dumps(value).decode()}`"


def value_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a key takes, in words: the shape of the value and its bounds."""
    if STEP in (schema, schema.get("items")):
        return "one step" if schema == STEP else "steps"
    if "enum" in schema.get("items", {}):
        return "list of " + value_of(schema["items"], definitions)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices is not None:
        words = [value_of(one, definitions) for one in choices if not _goes_without_saying(one)]
        return ", or ".join(dict.fromkeys(words)) or "anything"
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{_spelled(choice)}`" for choice in choices)
    if "$ref" in schema:
        return value_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return " or ".join(_SHAPES.get(kind, "anything") for kind in kinds) + _bounds(schema)


def _spelled(choice: Any) -> str:
    return choice if isinstance(choice, str) else orjson.dumps(choice).decode()


_SHAPES: Final = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "array": "list",
    "object": "object",
}


def _goes_without_saying(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "null" or schema.get("pattern") == TEMPLATE_PATTERN


def _bounds(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if least is not None and most is not None:
        return f", {_number(least)} to {_number(most)}"
    if above is not None and most is not None:
        return f", above {_number(above)}, at most {_number(most)}"
    if schema.get("type") == "string" and "maxLength" in schema:
        return f", at most {_number(schema['maxLength'])} characters"
    if schema.get("type") == "array" and "maxItems" in schema:
        return f", at most {_number(schema['maxItems'])}"
    return ""


def _number(value: float) -> str:
    whole = int(value)
    if abs(whole) > 2**53:
        power = whole.bit_length() - 1
        return f"{'-' if whole < 0 else ''}2^{power}"
    return f"{whole:,}" if value == whole else f"{value:g}"


# --- the document -------------------------------------------------------------------------------------


def renewed(text: str, examples: Examples) -> str:
    """A document with its tables written anew. Raises `KeyError` for a name that is none."""
    known = tables()

    def table(part: re.Match[str]) -> str:
        name = part["name"]
        return part[1] + written(name, known[name], examples) + part[3]

    return _PART.sub(table, text)


def main() -> None:
    """Renew `docs/workflows.md` below the current folder."""
    document = Path("docs/workflows.md")
    text = document.read_text(encoding="utf-8")
    document.write_text(renewed(text, Examples(Path("examples"), link="../examples")), encoding="utf-8")


if __name__ == "__main__":
    main()
