"""The schema that editors are given changes on purpose: `docs/workflow.schema.json` is what the code says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs

from app.dsl.schema import schema_json
from app.steps.registry import STEP_KINDS

SNAPSHOT = Path(__file__).parents[2] / "docs" / "workflow.schema.json"


def test_the_schema_in_docs_is_the_one_that_the_models_make() -> None:
    assert SNAPSHOT.read_text() == schema_json(STEP_KINDS), (
        "the language changed; if that is meant, write the schema anew: "
        "python -m app.cli schema > docs/workflow.schema.json"
    )


def test_the_schema_is_one() -> None:
    jsonschema_rs.meta.validate(json.loads(SNAPSHOT.read_text()))
