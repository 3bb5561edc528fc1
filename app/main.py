"""`uvicorn app.main:app`: the service from the environment's settings.

`llm-orchestrator serve` is the better way to run it: it owns the signals and drains in order. The address is
uvicorn's to choose here (`--host`), not the settings'; so requests that arrive on another address than
loopback are refused one by one, unless `server.allow_open` is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.bootstrap import build
from app.configuration import redactor
from app.observability.logging import configure_logging
from app.settings import Settings, environment
from app.settings_faults import unknown_variables


def create_app() -> FastAPI:
    """The application; its lifespan sets up logging and opens and closes everything.

    Raises `ValueError` for settings that cannot work.
    """
    if unknown := unknown_variables(environment()):
        raise ValueError(unknown[0])
    settings = Settings()
    service = build(settings)
    opened = service.app.router.lifespan_context

    @asynccontextmanager
    async def logged(app: FastAPI) -> AsyncIterator[None]:
        writer = configure_logging(
            redaction=redactor(settings),
            level=settings.log.level,
            format=settings.log.format,
            trace_ids=service.tracer.ids,
        )
        try:
            async with opened(app):
                yield
        finally:
            await asyncio.to_thread(writer.close)

    service.app.router.lifespan_context = logged
    return service.app


app = create_app()
