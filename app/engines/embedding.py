"""Which model made the vectors that a step is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.dsl.compiled import CompiledStep
from app.templating.renderer import Renderer


async def embedding_model(renderer: Renderer, step: CompiledStep, names: Mapping[str, Any]) -> str | None:
    """The model that the document tells of, None where it tells of none. Raises `TemplateFailed`."""
    if step.embedding_model is None:
        return None
    model = await renderer.render(step.embedding_model, names)
    return model if isinstance(model, str) and model else None
