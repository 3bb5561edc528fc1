"""The HTTP server's life: own socket, own signals, drain in order, exit 0.

uvicorn closes its listener at the first signal and waits for open streams for ever, so it gets no
signals. On SIGTERM or SIGINT: readiness turns false with the listener still open (load balancers need a
moment to notice), event streams end, runs end or are handed over, then the server stops. A second signal
stops at once; what was in flight is in the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Iterator
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI

from app.bootstrap import Service
from app.configuration import redactor
from app.observability.logging import configure_logging
from app.settings import ServerSettings, Settings

log = structlog.get_logger(__name__)

BACKLOG = 2048
GC_THRESHOLDS = (50_000, 20, 20)
CLOSE_SECONDS = 5
"""How long answers in flight may take once the listener is closed."""


class SignalFreeServer(uvicorn.Server):
    """A uvicorn that leaves signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def listen(host: str, port: int, *, options: str = "--host or --port") -> socket.socket:
    """The listening socket. Raises `OSError` naming the address, and the `options` that choose it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot listen on {host}:{port} ({reason}); choose another {options}") from error


def http_server(app: FastAPI) -> SignalFreeServer:
    """What serves an application on a socket of ours."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    return SignalFreeServer(config)


def url_of(listener: socket.socket) -> str:
    """The address of a listening socket, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def run_service(settings: Settings, service: Service) -> None:
    """Listen, log and serve. Raises `OSError`, or as `serve` does, with what to do."""
    writer = configure_logging(
        redaction=redactor(settings),
        level=settings.log.level,
        format=settings.log.format,
        trace_ids=service.tracer.ids,
    )
    try:
        listener = listen(settings.server.host, settings.server.port)
        await serve(service, settings.server, listener)
    finally:
        await asyncio.to_thread(writer.close)


async def serve(
    service: Service,
    settings: ServerSettings,
    listener: socket.socket,
    *,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until a signal comes or `stop` is set; returns when everything is stored and closed.

    The listener is closed then, however it went. Raises `StoreError`, or `CallError` for the vector store,
    if the service cannot start.
    """
    server = http_server(service.app)
    try:
        await service.start()
        tune_garbage_collection()
        with _stop_signals() as signals:
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="http-server")
            log.info("server.listening", url=url_of(listener))
            await _until_told(serving, signals, stop)
            if not serving.done():
                server.force_exit = not await _drained(service, settings, signals)
            server.should_exit = True
            await serving
    finally:
        try:
            await service.close()
        finally:
            listener.close()


def tune_garbage_collection() -> None:
    """Collect cycles less often, and never walk what was there at the start.

    Thousands of runs in flight are hundreds of thousands of live objects and hardly any garbage in
    cycles; the default thresholds walk them again and again. Nothing is collected before that: it would
    take a tenth of the time to start, and find two thousand objects.
    """
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()


async def _until_told(
    serving: asyncio.Task[None], signals: asyncio.Queue[signal.Signals], stop: asyncio.Event | None
) -> None:
    """Wait for the first signal, for `stop`, or for the server to end by itself."""
    causes = [asyncio.create_task(signals.get())]
    if stop is not None:
        causes.append(asyncio.create_task(_is_set(stop)))
    await asyncio.wait({serving, *causes}, return_when=asyncio.FIRST_COMPLETED)
    await _cancel(*causes)


async def _is_set(stop: asyncio.Event) -> signal.Signals:
    await stop.wait()
    return signal.SIGTERM


async def _drained(
    service: Service, settings: ServerSettings, signals: asyncio.Queue[signal.Signals]
) -> bool:
    """Drain; False if a second signal cut it short."""
    draining = asyncio.create_task(_drain(service, settings))
    again = asyncio.create_task(signals.get())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    completed = draining.done()
    await _cancel(draining, again)
    return completed


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _drain(service: Service, settings: ServerSettings) -> None:
    log.info("server.draining", seconds=settings.drain_seconds)
    service.begin_drain()
    await asyncio.sleep(settings.drain_delay_seconds)
    await service.drain(settings.drain_seconds)


@contextlib.contextmanager
def _stop_signals() -> Iterator[asyncio.Queue[signal.Signals]]:
    queue: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, queue.put_nowait, number)
    try:
        yield queue
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
