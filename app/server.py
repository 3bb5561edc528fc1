"""The HTTP server's life: own signals, drain in order, exit 0.

uvicorn closes its listener at the first signal and waits for open streams for ever, so it gets no
signals. On SIGTERM or SIGINT: readiness turns false with the listener still open (load balancers need a
moment to notice), runs end or are handed over, event streams end, then the server stops. A second signal
stops at once; what was in flight is in the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import structlog
import uvicorn

from app.bootstrap import Service
from app.settings import ServerSettings

log = structlog.get_logger(__name__)

CLOSE_SECONDS = 5
"""How long answers in flight may take once the listener is closed."""


class SignalFreeServer(uvicorn.Server):
    """A uvicorn that leaves signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve(service: Service, settings: ServerSettings) -> None:
    """Serve until a signal comes; returns when everything is stored and closed."""
    config = uvicorn.Config(
        service.app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    server = SignalFreeServer(config)
    signals = _listen_for_signals()
    serving = asyncio.create_task(server.serve(), name="http-server")
    first = asyncio.create_task(signals.get())
    await asyncio.wait({serving, first}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        draining = asyncio.create_task(_drain(service, settings, server))
        second = asyncio.create_task(signals.get())
        await asyncio.wait({draining, second}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        server.force_exit = second.done()
        for task in (draining, second):
            task.cancel()
    first.cancel()
    await serving


async def _drain(service: Service, settings: ServerSettings, server: uvicorn.Server) -> None:
    log.info("server.draining", seconds=settings.drain_seconds)
    service.begin_drain()
    await asyncio.sleep(settings.drain_delay_seconds)
    await service.drain(settings.drain_seconds)
    server.should_exit = True


def _listen_for_signals() -> asyncio.Queue[signal.Signals]:
    queue: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, queue.put_nowait, number)
    return queue
