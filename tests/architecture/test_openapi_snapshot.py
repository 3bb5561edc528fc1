"""The published contract changes on purpose: `docs/openapi.json` is what the code says."""

from __future__ import annotations

from pathlib import Path

from app.api.app import openapi_json
from tests.api.harness import api

SNAPSHOT = Path(__file__).parents[2] / "docs" / "openapi.json"


async def test_the_openapi_document_in_docs_is_the_one_that_is_served() -> None:
    async with api() as service:
        served = openapi_json(service.app)
    assert SNAPSHOT.read_text() == served, (
        "the API changed; if that is meant, write the document anew: "
        "python -m app.cli openapi > docs/openapi.json"
    )
