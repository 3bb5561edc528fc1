"""`uvicorn app.main:app`: the service from the environment's settings.

`llm-orchestrator serve` is the better way to run it: it owns the signals and drains in order.
"""

from __future__ import annotations

from fastapi import FastAPI

from app.bootstrap import build
from app.settings import Settings


def create_app() -> FastAPI:
    """The application; its lifespan opens and closes everything."""
    return build(Settings()).app


app = create_app()
