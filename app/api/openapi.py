"""The OpenAPI 3.1 document: FastAPI's own, with the models that only hand-written answers use."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from app.api.v1.rendering import workflow_path
from app.api.v1.schemas.batches import SubmitBatch
from app.api.v1.schemas.events import Event
from app.api.v1.schemas.problems import ProblemDocument
from app.services.views import WorkflowView

TITLE: Final = "LLM Orchestrator"
DESCRIPTION: Final = (
    "LLM workflows as a service. Register a workflow or send one along, get a run id at once, and read, "
    "stream or cancel the run. Times are RFC 3339 in UTC, ids are UUIDv7, errors are problem+json (RFC 9457)."
)
TAGS: Final = [
    {"name": "runs", "description": "Executions of workflows"},
    {"name": "workflows", "description": "Registered definitions; versions are immutable"},
    {"name": "approvals", "description": "Questions that runs wait for people to answer"},
    {"name": "schedules", "description": "Workflows that run by the clock"},
    {"name": "webhooks", "description": "Who is told of what happens to runs (Standard Webhooks)"},
    {"name": "providers", "description": "Vendors of models and vector databases, as they are configured"},
    {"name": "health", "description": "Probes and metrics"},
]
RUN_WORKFLOW: Final = "/v1/workflows/{name}/runs"


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document of an app; made once and kept."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=TITLE, version=app.version, description=DESCRIPTION, tags=TAGS, routes=app.routes
        )
        _, models = models_json_schema(
            [(ProblemDocument, "serialization"), (Event, "serialization"), (SubmitBatch, "validation")],
            ref_template="#/components/schemas/{model}",
        )
        document["components"]["schemas"].update(models["$defs"])
        for route in app.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                for method in route.methods or ():
                    _mend(document["paths"][route.path_format][method.lower()], route)
        app.openapi_schema = document
    return app.openapi_schema


def _mend(operation: dict[str, Any], route: APIRoute) -> None:
    """What FastAPI's document loses: nulls in examples; that parameters and bodies are absent, never null."""
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _present(parameter["schema"])
    for body in operation.get("requestBody", {}).get("content", {}).values():
        body["schema"] = _present(body["schema"])
        body["schema"].pop("title", None)  # every one is called Body
    for status, answer in route.responses.items():
        for media_type, content in answer.get("content", {}).items():
            if "example" in content:
                operation["responses"][str(status)]["content"][media_type]["example"] = content["example"]


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    branches = [branch for branch in schema.get("anyOf", ()) if branch.get("type") != "null"]
    if len(branches) != 1:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**branches[0], **rest}


def workflow_openapi(app: FastAPI, workflow: WorkflowView) -> dict[str, Any]:
    """The part of the document that runs one workflow, with that workflow's inputs in place."""
    whole = openapi_document(app)
    operation = deepcopy(whole["paths"][RUN_WORKFLOW]["post"])
    operation["parameters"] = [one for one in operation["parameters"] if one["in"] != "path"]
    operation["summary"] = f"Run {workflow.summary.name} {workflow.summary.version}"
    schemas = deepcopy(whole["components"]["schemas"])
    if workflow.inputs_schema is not None:
        body = schemas["RunWorkflow"]
        body["properties"]["inputs"] = workflow.inputs_schema
        if workflow.inputs_schema.get("required"):
            body["required"] = sorted({*body.get("required", ()), "inputs"})
        operation["requestBody"]["content"]["application/json"].pop("examples", None)
    return {
        "openapi": whole["openapi"],
        "info": {"title": workflow.summary.name, "version": workflow.summary.version},
        "paths": {workflow_path(workflow.summary.name) + "/runs": {"post": operation}},
        "components": {"schemas": schemas},
    }
