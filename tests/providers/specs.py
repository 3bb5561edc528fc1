"""Vendors' own API documents as validators: OpenAPI 3.0 and 3.1, Swagger 2.0, in JSON or YAML.

They lie beside the checkout (`../shared/specs`) or where `ORCHESTRATOR_SPECS_DIR` points; what needs one
that is missing is skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import yaml

from tests.conftest import require_or_skip

ROOT = Path(__file__).resolve().parents[2]
NOT_SCHEMAS: Final = frozenset({"enum", "const", "default", "example", "examples", "required"})
"""Keywords whose values are data."""
DROPPED: Final = frozenset({"discriminator", "example", "examples"})
BY_NAME: Final = frozenset({"properties", "patternProperties", "definitions", "schemas"})
"""Keywords whose values are schemas by name."""


class Spec:
    """One document. Every check raises `jsonschema_rs.ValidationError`."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._paths = document["paths"]
        self._key = "components" if "components" in document else "definitions"
        self._prefix = "#/components/schemas/" if self._key == "components" else "#/definitions/"
        schemas = document["components"]["schemas"] if self._key == "components" else document["definitions"]
        converted = {name: _converted(schema) for name, schema in schemas.items()}
        self._shared = {"schemas": converted} if self._key == "components" else converted
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def check(self, name: str, value: Any) -> None:
        """Validate against a named schema."""
        self._validate(name, {"$ref": self._prefix + name}, value)

    def check_request(self, method: str, path: str, value: Any) -> None:
        """Validate the body of a request; `path` is as the document writes it."""
        operation = self._paths[path][method.lower()]
        if self._key == "definitions":
            schema = next(it["schema"] for it in operation["parameters"] if it["in"] == "body")
        else:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
        self._validate(f"{method} {path}", schema, value)

    def check_answer(self, method: str, path: str, status: int, value: Any) -> None:
        """Validate the body of an answer."""
        answers = self._paths[path][method.lower()]["responses"]
        kind = f"{status // 100}XX"
        answer = answers.get(str(status)) or answers.get(kind) or answers["default"]
        schema = (
            answer["schema"]
            if self._key == "definitions"
            else answer["content"]["application/json"]["schema"]
        )
        self._validate(f"{method} {path} {status}", schema, value)

    def operation(self, method: str, path: str) -> Mapping[str, Any]:
        """An operation as the document has it, examples and all."""
        found: Mapping[str, Any] = self._paths[path][method.lower()]
        return found

    def _validate(self, key: str, schema: Any, value: Any) -> None:
        if key not in self._validators:
            whole = {"allOf": [_converted(schema)], self._key: self._shared}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole)
        self._validators[key].validate(value)


@cache
def load_spec(file: str) -> Spec:
    """The document of that file name; skips the test where it is missing."""
    path = Path(os.environ.get("ORCHESTRATOR_SPECS_DIR") or ROOT.parent / "shared" / "specs") / file
    if not path.is_file():
        require_or_skip(f"{file} is missing", "set ORCHESTRATOR_SPECS_DIR to the folder that holds it")
    text = path.read_bytes()
    if path.suffix == ".json":
        return Spec(json.loads(text))
    # The loader in C is as safe, and seven times as fast.
    return Spec(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506  see above


def _converted(schema: Any) -> Any:
    """A schema in JSON Schema's words: no `nullable`, numeric exclusive bounds, no discriminator."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("nullable") is True and len(schema) == 1:
        return {"type": "null"}
    read = {key: _keyword(key, value) for key, value in schema.items() if key not in DROPPED}
    if "discriminator" in schema and "oneOf" in read:
        read["anyOf"] = read.pop("oneOf")  # without what tells them apart, several may fit
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(read.get(bound), bool):
            exclusive = read.pop(bound)
            if exclusive and limit in read:
                read[bound] = read.pop(limit)
    if isinstance(read.get("$ref"), str) and not read["$ref"].startswith("#"):
        return {}
    nullable = read.pop("nullable", False) is True or read.pop("x-nullable", False) is True
    return {"anyOf": [read, {"type": "null"}]} if nullable else read


def _keyword(key: str, value: Any) -> Any:
    if key in NOT_SCHEMAS:
        return value
    if key in BY_NAME and isinstance(value, dict):
        return {name: _converted(schema) for name, schema in value.items()}
    if isinstance(value, list):
        return [_converted(item) for item in value]
    return _converted(value)
