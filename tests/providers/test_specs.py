"""Vendors' documents as validators: what JSON Schema does not know is said in its words."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from tests.providers.specs import Spec

SCHEMAS: dict[str, Any] = {
    "Pet": {
        "type": "object",
        "required": ["kind"],
        "discriminator": {"propertyName": "kind"},
        "properties": {
            "kind": {"type": "string"},
            "age": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
            "nullable": {"type": "boolean", "nullable": True},
            "owner": {"anyOf": [{"$ref": "#/components/schemas/Owner"}, {"nullable": True}]},
        },
    },
    "Owner": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
}


def openapi() -> Spec:
    def content(name: str) -> Any:
        return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}

    operation = {"requestBody": content("Pet"), "responses": {"200": content("Pet"), "4XX": content("Owner")}}
    return Spec({"paths": {"/pets": {"post": operation}}, "components": {"schemas": SCHEMAS}})


def swagger() -> Spec:
    owner = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"x-nullable": True, "type": "string"}},
    }
    schema = {"$ref": "#/definitions/Owner"}
    operation = {
        "parameters": [{"in": "query", "name": "q"}, {"in": "body", "schema": schema}],
        "responses": {"default": {"schema": schema}},
    }
    return Spec({"paths": {"/owners": {"put": operation}}, "definitions": {"Owner": owner}})


@pytest.mark.parametrize(
    "pet", [{}, {"kind": "cat", "age": 0}, {"kind": "cat", "nullable": "no"}, {"kind": "cat", "owner": {}}]
)
def test_what_a_document_forbids_is_noticed(pet: Any) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        openapi().check("Pet", pet)
    with pytest.raises(jsonschema_rs.ValidationError):
        openapi().check_request("POST", "/pets", pet)


def test_what_a_document_allows_passes() -> None:
    spec = openapi()
    spec.check("Pet", {"kind": "cat", "age": 1, "nullable": None, "owner": None})
    spec.check_answer("POST", "/pets", 200, {"kind": "cat"})
    spec.check_answer("POST", "/pets", 404, {"name": "Ann"})


def test_older_documents_are_read_too() -> None:
    spec = swagger()
    spec.check("Owner", {"name": None})
    spec.check_request("PUT", "/owners", {"name": "Ann"})
    with pytest.raises(jsonschema_rs.ValidationError):
        spec.check_answer("PUT", "/owners", 200, {"name": 1})
