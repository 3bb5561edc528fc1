"""The API behind a real server on a loopback port, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tests.api.harness import api


@contextmanager
def served(**options: Any) -> Iterator[str]:
    """Serve until the context ends; the base URL."""
    started = threading.Event()
    where: list[str] = []
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        over = asyncio.Event()
        stop.append((asyncio.get_running_loop(), over))
        async with api(**options) as service:
            config = uvicorn.Config(
                service.app, host="127.0.0.1", port=0, log_config=None, lifespan="off", access_log=False
            )
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
                await asyncio.sleep(0.01)
            host, port = server.servers[0].sockets[0].getsockname()[:2]
            where.append(f"http://{host}:{port}")
            started.set()
            await over.wait()
            service.services.close()
            server.should_exit = True
            await task

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="served-api")
    thread.start()
    try:
        assert started.wait(10), "the server did not start"
        yield where[0]
    finally:
        loop, over = stop[0]
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
