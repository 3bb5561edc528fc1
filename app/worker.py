"""The life of a worker process: executes runs that Temporal places on it, until a signal comes.

It serves probes and metrics where a port is set, and listens on nothing otherwise. After SIGTERM or SIGINT it
takes no further run, lets those it has go on for the drain time, and hands the rest over. A second signal
stops at once; what was in flight is in the journal.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog
from fastapi import FastAPI

from app.api.app import create_probes
from app.api.callers import Callers, is_loopback
from app.api.readiness import worker_checks
from app.bootstrap import MIB, Service
from app.configuration import redactor
from app.engines.temporal.engine import TemporalEngine
from app.observability.logging import configure_logging
from app.placement import run_worker
from app.ports.turns import SHORT_TURNS
from app.server import http_server, listen, tune_garbage_collection, url_of
from app.settings import Settings

if TYPE_CHECKING:
    from app.engines.temporal.worker import RunWorker

log = structlog.get_logger(__name__)

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


async def run_worker_process(settings: Settings, service: Service) -> None:
    """Work until told to stop. Raises `StoreError`, or `CallError` where Temporal cannot be used."""
    writer = configure_logging(
        redaction=redactor(settings),
        level=settings.log.level,
        format=settings.log.format,
        trace_ids=service.tracer.ids,
    )
    try:
        with SHORT_TURNS:  # Temporal's SDK decides about workflows in threads of its own
            await _work(settings, service)
    finally:
        await asyncio.to_thread(writer.close)


async def _work(settings: Settings, service: Service) -> None:
    engine, client = service.engine, service.temporal
    if client is None or not isinstance(engine, TemporalEngine):
        raise ValueError("a worker needs the engine 'temporal'")
    worker = run_worker(
        settings.temporal,
        client,
        store=service.store,
        tools=service.tools,
        engine=engine,
        grace_seconds=settings.server.drain_seconds,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        service.begin_drain()
        stop.set()
        _leave_signals(loop)  # the next one ends the process, as it does by itself

    for number in SIGNALS:
        loop.add_signal_handler(number, told)
    try:
        with _listener(settings) as listener:
            await service.open()
            tune_garbage_collection()
            async with answering(_probes(settings, service, worker), listener, failed=stop.set):
                await worker.run(stop)
    finally:
        _leave_signals(loop)
        await service.close()


@contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket | None]:
    """The socket for probes, if there is to be one. Raises `OSError`."""
    host, port = settings.temporal.health_host, settings.temporal.health_port
    if port is None:
        yield None
        return
    with closing(listen(host, port, options="--health-host or --health-port")) as listener:
        yield listener


def _probes(settings: Settings, service: Service, worker: RunWorker) -> FastAPI:
    """The API's own probes and metrics, with the checks of a worker."""
    memory, host = settings.server.max_memory_mib, settings.temporal.health_host
    most = memory * MIB if memory else None
    checks = worker_checks(service.store, worker.polled, max_memory_bytes=most)
    services = replace(service.api, probes=replace(service.api.probes, checks=checks))
    # They tell nothing of runs, so whoever may connect may ask.
    callers = Callers(host=host, allowed_hosts=settings.server.allowed_hosts, open=not is_loopback(host))
    return create_probes(services, callers=callers)


@asynccontextmanager
async def answering(
    app: FastAPI, listener: socket.socket | None, *, failed: Callable[[], None]
) -> AsyncIterator[None]:
    """Answer on the socket, also while the worker drains; `failed` is called if that ends by itself.

    Raises what it ended with, or `OSError`: a worker that nobody can probe would be taken for a dead one.
    """
    if listener is None:
        yield
        return
    server = http_server(app)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http-server")
    serving.add_done_callback(lambda _: failed())
    log.info("worker.listening", url=url_of(listener))
    try:
        yield
        if serving.done() and serving.exception() is None:
            raise OSError("the server of the worker's probes ended by itself")
    finally:
        server.should_exit = True
        await serving


def _leave_signals(loop: asyncio.AbstractEventLoop) -> None:
    for number in SIGNALS:
        loop.remove_signal_handler(number)
