"""The language of documents as one JSON Schema, for editors and the OpenAPI document.

It is made of the same models that check documents, so it cannot fall behind them. What only the compiler
sees (references, cycles, names) is not in it, nor are all short forms that kinds take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.dsl.document import StepDocument, WorkflowDocument
from app.dsl.inputs import DIALECT
from app.steps.kind import StepKind

_TEMPLATE: Final[Mapping[str, Any]] = {"type": "string", "pattern": r"\{[{%#]", "title": "Template"}
_MEANINGFUL: Final = frozenset({"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"})


def document_schema(
    kinds: Mapping[str, StepKind], *, ref_template: str = "#/$defs/{model}"
) -> dict[str, Any]:
    """A JSON Schema (2020-12) of workflow documents, one definition a step kind.

    The definitions are in `$defs`; `ref_template` says where references look for them, should the caller
    move them (`#/components/schemas/{model}`).
    """
    workflow = WorkflowDocument.model_json_schema(ref_template=ref_template)
    step = StepDocument.model_json_schema(ref_template=ref_template)
    definitions = {**workflow.pop("$defs", {}), **step.pop("$defs", {})}
    references = {name: ref_template.format(model=f"{_title(name)}Step") for name in kinds}
    workflow["properties"]["steps"]["items"] = {
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "type", "mapping": references},
    }
    for name, kind in kinds.items():
        definitions |= _step(name, kind, step, ref_template)
    return {"$schema": DIALECT, **workflow, "title": "Workflow", "$defs": definitions}


def _step(
    name: str, kind: StepKind, common: Mapping[str, Any], ref_template: str
) -> dict[str, dict[str, Any]]:
    """The definition of a kind's step, and those it refers to."""
    prefix = _title(name)
    own = kind.config_model.model_json_schema(
        ref_template=ref_template.replace("{model}", prefix + "{model}")
    )
    definitions = {f"{prefix}{inner}": _templated(schema) for inner, schema in own.pop("$defs", {}).items()}
    config = _templated(own)
    definitions[f"{prefix}Step"] = {
        "title": f"{prefix}Step",
        "description": f"A step of kind `{name}`.",
        "type": "object",
        "properties": {
            **common["properties"],
            **config.get("properties", {}),
            "type": {"const": name, "title": "Type"},
        },
        "required": [*common["required"], *own.get("required", [])],
        "additionalProperties": own.get("additionalProperties", True),
    }
    return definitions


def _templated(schema: Any) -> Any:
    """The schema with a template allowed wherever a value stands."""
    if isinstance(schema, list):
        return [_templated(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {}
    for key, value in schema.items():
        if key == "properties":
            result[key] = {name: _or_template(member) for name, member in value.items()}
        elif key in {"items", "additionalProperties"} and isinstance(value, dict):
            result[key] = _or_template(value)
        elif key in {"default", "enum", "const", "examples"}:
            result[key] = value
        else:
            result[key] = _templated(value)
    return result


def _or_template(schema: dict[str, Any]) -> dict[str, Any]:
    if not _MEANINGFUL & schema.keys():
        return schema
    return {"anyOf": [_templated(schema), dict(_TEMPLATE)]}


def _title(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
