"""The language of documents as one JSON Schema, for editors and the OpenAPI document.

It is made of the same models that check documents, so it cannot fall behind them. What only the compiler
sees (references, cycles, names) is not in it, nor are all short forms that kinds take.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, Final

import orjson

from app.dsl.document import ATTEMPT_KEYS, StepDocument, WorkflowDocument
from app.steps.control import STEP, ControlKind
from app.steps.kind import StepKind
from app.steps.registry import CONTROL_KINDS
from app.steps.schemas import DIALECT

_BY_NAME: Final = frozenset({"properties", "$defs"})
"""Keys of a schema that hold schemas by names of the document's."""
_VALUES: Final = frozenset({"default", "enum", "const", "examples"})


def document_schema(
    kinds: Mapping[str, StepKind], *, ref_template: str = "#/$defs/{model}"
) -> dict[str, Any]:
    """A JSON Schema (2020-12) of workflow documents, one definition a step kind, control kinds included.

    The definitions are in `$defs`; `ref_template` says where references look for them, should the caller
    move them (`#/components/schemas/{model}`).
    """
    workflow = WorkflowDocument.model_json_schema(ref_template=ref_template)
    step = StepDocument.model_json_schema(ref_template=ref_template)
    definitions = {**workflow.pop("$defs", {}), **step.pop("$defs", {})}
    references = {name: ref_template.format(model=f"{_title(name)}Step") for name in (*kinds, *CONTROL_KINDS)}
    definitions["Step"] = {
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "type", "mapping": references},
    }
    for name, kind in kinds.items():
        definitions |= _step(name, kind, step, ref_template)
    for name, control in CONTROL_KINDS.items():
        definitions |= _control_step(name, control, step, ref_template)
    workflow["description"] = "A workflow document of LLM Orchestrator."
    schema = {"$schema": DIALECT, "title": "Workflow", **_readable(workflow)}
    schema["$defs"] = {name: {"title": name, **_readable(it)} for name, it in definitions.items()}
    filled: dict[str, Any] = _with_steps(schema, {"$ref": ref_template.format(model="Step")})
    return filled


def schema_json(kinds: Mapping[str, StepKind]) -> str:
    """The schema as it is kept in `docs/`: stable, readable, ends with a newline."""
    return orjson.dumps(document_schema(kinds), option=orjson.OPT_INDENT_2).decode() + "\n"


def summary_of(kind: StepKind | ControlKind) -> str:
    """What a kind does: the first paragraph of what its class says."""
    return " ".join(cleandoc(type(kind).__doc__ or "").partition("\n\n")[0].split())


def _step(
    name: str, kind: StepKind | ControlKind, common: Mapping[str, Any], ref_template: str
) -> dict[str, dict[str, Any]]:
    """The definition of a kind's step, and those it refers to."""
    prefix = _title(name)
    own = kind.config_model.model_json_schema(
        ref_template=ref_template.replace("{model}", prefix + "{model}")
    )
    definitions = {f"{prefix}{inner}": schema for inner, schema in own.pop("$defs", {}).items()}
    definitions[f"{prefix}Step"] = {
        "description": summary_of(kind),
        "type": "object",
        "properties": {
            **common["properties"],
            **own.get("properties", {}),
            "type": {"const": name, "description": common["properties"]["type"]["description"]},
        },
        "required": [*common["required"], *own.get("required", [])],
        "additionalProperties": own.get("additionalProperties", True),
    }
    return definitions


def _control_step(
    name: str, kind: ControlKind, common: Mapping[str, Any], ref_template: str
) -> dict[str, dict[str, Any]]:
    """The same for a control kind, which has keys that hold steps, and none that speak of attempts."""
    without = {key: value for key, value in common["properties"].items() if key not in ATTEMPT_KEYS}
    definitions = _step(name, kind, {**common, "properties": without}, ref_template)
    blocks = kind.blocks_model.model_json_schema()
    step = definitions[f"{_title(name)}Step"]
    step["properties"] |= blocks.get("properties", {})
    step["required"] += blocks.get("required", [])
    return definitions


def _with_steps(schema: Any, step: dict[str, Any]) -> Any:
    """The schema with that of a step wherever one may stand."""
    if isinstance(schema, list):
        return [_with_steps(part, step) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return dict(step) if schema == STEP else {key: _with_steps(part, step) for key, part in schema.items()}


def _readable(schema: Any) -> Any:
    """The schema without what editors show for nothing: titles made of names, defaults that are none."""
    if isinstance(schema, list):
        return [_readable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _BY_NAME:
            result[key] = {name: _readable(member) for name, member in value.items()}
        elif key == "description":
            result[key] = " ".join(value.split())
        elif key in _VALUES:
            if value is not None:
                result[key] = value
        elif key != "title":
            result[key] = _readable(value)
    return result


def _title(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
