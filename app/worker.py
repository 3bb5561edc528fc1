"""The life of a worker process: executes runs that Temporal places on it, until a signal comes.

It listens on nothing. After SIGTERM or SIGINT it takes no further run, lets those it has go on for the drain
time, and hands the rest over. A second signal stops at once; what was in flight is in the journal.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Final

from app.bootstrap import Service
from app.configuration import redactor
from app.engines.temporal.engine import TemporalEngine
from app.observability.logging import configure_logging
from app.placement import run_worker
from app.server import SWITCH_SECONDS, tune_garbage_collection
from app.settings import Settings

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


async def run_worker_process(settings: Settings, service: Service) -> None:
    """Work until told to stop. Raises `StoreError`, or `CallError` where Temporal cannot be used."""
    sys.setswitchinterval(SWITCH_SECONDS)
    writer = configure_logging(
        redaction=redactor(settings),
        level=settings.log.level,
        format=settings.log.format,
        trace_ids=service.tracer.ids,
    )
    try:
        await _work(settings, service)
    finally:
        await asyncio.to_thread(writer.close)


async def _work(settings: Settings, service: Service) -> None:
    engine, client = service.engine, service.temporal
    if client is None or not isinstance(engine, TemporalEngine):
        raise ValueError("a worker needs the engine 'temporal'")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        stop.set()
        _leave_signals(loop)  # the next one ends the process, as it does by itself

    for number in SIGNALS:
        loop.add_signal_handler(number, told)
    try:
        await service.open()
        tune_garbage_collection()
        worker = run_worker(
            settings.temporal,
            client,
            store=service.store,
            tools=service.tools,
            engine=engine,
            grace_seconds=settings.server.drain_seconds,
        )
        await worker.run(stop)
    finally:
        _leave_signals(loop)
        await service.close()


def _leave_signals(loop: asyncio.AbstractEventLoop) -> None:
    for number in SIGNALS:
        loop.remove_signal_handler(number)
