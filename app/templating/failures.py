"""One message for whatever a render may raise: what to do, and nothing of the data."""

from __future__ import annotations

from jinja2.exceptions import TemplateRuntimeError

from app.ports.errors import TemplateFailed

_MAX_MESSAGE = 300


def render_failure(error: Exception) -> str:
    """What to tell the author of a template that raised this error."""
    if isinstance(error, (TemplateFailed, TemplateRuntimeError)):
        return str(error)[:_MAX_MESSAGE]
    if isinstance(error, MemoryError):
        return "the template needs more memory than it may have; take a part of the data"
    if isinstance(error, RecursionError):
        return "the template or its data are nested too deeply"
    if isinstance(error, OverflowError):
        return "a number or range of the template is too large"
    unpacking = "unpack" in str(error)
    if isinstance(error, TypeError) or (isinstance(error, ValueError) and unpacking):
        return f"the template uses a value of the wrong type: {error}"[:_MAX_MESSAGE]
    return f"the template cannot be rendered with this data ({type(error).__name__})"


def located(message: str, pointer: str) -> TemplateFailed:
    """The failure of the template at a place of its value."""
    return TemplateFailed(f"{message} (in {pointer})" if pointer else message)
