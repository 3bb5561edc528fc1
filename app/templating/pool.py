"""The renderer's side of its workers: starting, asking and killing them.

A worker answers one request at a time. Whatever disturbs an exchange (a timeout, a cancelled caller, a
broken pipe) ends the worker, and the next request starts another: no answer can reach the wrong caller.
Requests wait in the order in which they came.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any, Final

from app.ports.errors import TemplateFailed
from app.templating.limits import RenderLimits
from app.templating.wire import HEADER, frame, unframe

_START_SECONDS: Final = 30.0
_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from app.templating.worker import main; main()"
)
"""The worker runs isolated from the caller's environment, so it is told where this package lies."""
_BYTES_A_CHAR: Final = 6
"""What a character may take in JSON."""
_TOO_SLOW: Final = "the template takes longer than {} s; take a part of the data, or do less with it"


class _Worker:
    """One process and its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> _Worker:
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-c",
                _PROGRAM,
                str(Path(__file__).parents[2]),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )
        )

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def exchange(self, request: bytes, max_answer: int) -> Any:
        """Raises `EOFError`, `OSError` or `ValueError` when the worker is gone or talks nonsense."""
        source, sink = self._process.stdout, self._process.stdin
        if source is None or sink is None:
            raise EOFError
        sink.write(request)
        await sink.drain()
        (size,) = HEADER.unpack(await source.readexactly(HEADER.size))
        if size > max_answer:
            raise ValueError("the answer is too large")
        return unframe(await source.readexactly(size))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> None:
        """Wait until the process is gone and its pipes are closed."""
        await self._process.wait()


class WorkerPool:
    """At most `size` workers, started when they are first needed."""

    def __init__(self, limits: RenderLimits, size: int) -> None:
        self._limits = limits
        self._size = size
        self._turns = asyncio.Semaphore(size)
        self._closing = asyncio.Lock()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._closed = False

    async def ask(self, message: Any) -> Any:
        """A worker's answer. Raises `TemplateFailed` when it could not give one in time."""
        try:
            request = frame(message)
        except TypeError as error:
            raise TemplateFailed(f"the template's data cannot be sent to a worker: {error}") from error
        async with self._turns:
            worker = await self._take()
            try:
                answer = await self._exchange(worker, request)
            except BaseException:
                worker.kill()
                raise
            if not answer.get("spent"):
                self._idle.append(worker)
            return answer

    async def _take(self) -> _Worker:
        if self._closed:
            raise TemplateFailed("templates are not rendered any more: the service is stopping")
        self._all = {worker for worker in self._all if worker.alive}
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
        try:
            return await self._start()
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            raise TemplateFailed("the template's worker process could not be started; try again") from error

    async def _start(self) -> _Worker:
        worker = await _Worker.start()
        self._all.add(worker)
        if self._closed:  # it was just being made: whoever closes waits for this request, and then for it
            worker.kill()
        hello = {
            "memory_bytes": self._limits.memory_bytes,
            "timeout_seconds": self._limits.timeout_seconds,
            "max_output_chars": self._limits.max_output_chars,
        }
        try:
            async with asyncio.timeout(_START_SECONDS):
                await worker.exchange(frame(hello), HEADER.size)
        except BaseException:
            worker.kill()
            raise
        return worker

    async def _exchange(self, worker: _Worker, request: bytes) -> dict[str, Any]:
        max_answer = self._limits.memory_bytes + _BYTES_A_CHAR * self._limits.max_output_chars
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                answer = await worker.exchange(request, max_answer)
        except TimeoutError as error:
            raise TemplateFailed(_TOO_SLOW.format(self._limits.timeout_seconds)) from error
        except (OSError, EOFError, ValueError) as error:
            raise TemplateFailed("the template's worker process ended; it needs too much") from error
        if not isinstance(answer, dict):
            raise TemplateFailed("the template's worker process gave no answer")
        return answer

    async def close(self) -> None:
        """End every worker, in the middle of a render too, and wait until they are gone."""
        self._closed = True
        self._idle.clear()
        for worker in self._all:
            worker.kill()
        # With every turn in hand no request is under way, and none is just starting a worker.
        async with self._closing, contextlib.AsyncExitStack() as turns:
            for _ in range(self._size):
                await turns.enter_async_context(self._turns)
            await asyncio.gather(*(worker.ended() for worker in self._all))
            self._all.clear()
