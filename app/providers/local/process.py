"""Keeps the local model's process: started at the first use, again after it died, ended with its owner.

However many ask at once, one start is under way, and none begins sooner than `cooldown_seconds` after
the one before: a model that cannot run is not tried in a loop, its callers get a `TemporaryError` that
says when. What the process does is in `server`; how it is talked to is the adapter's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from app.ports.errors import TemporaryError

log = structlog.get_logger(__name__)

SERVER_COMMAND: Final = (sys.executable, "-m", "app.providers.local.server")
_END_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the model is served; another one after each start."""

    base_url: str
    api_key: str = field(repr=False)


class ModelProcess:
    """One child process that serves a model on the loopback address."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        command: Sequence[str] = SERVER_COMMAND,
        start_timeout_seconds: float = 60.0,
        cooldown_seconds: float = 5.0,
    ) -> None:
        """`settings` are those of `server.Settings` but the key, which is made for every start."""
        self._settings = dict(settings)
        self._command = tuple(command)
        self._start_timeout_seconds = start_timeout_seconds
        self._cooldown_seconds = cooldown_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._address: Address | None = None
        self._starting: asyncio.Task[Address] | None = None
        self._not_before = 0.0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The living process, if there is one."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def address(self, *, timeout_seconds: float) -> Address:
        """Where to call, started if need be. Raises `TemporaryError` (timeout, connection, server_error)."""
        if self._address is not None and self.pid is not None:
            return self._address
        if self._closed:
            raise TemporaryError("connection", "the local model is shut down")
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="start-local-model")
            self._starting.add_done_callback(self._started)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.shield(self._starting)
        except TimeoutError:
            raise TemporaryError(
                "timeout", f"the local model was not ready within {timeout_seconds:g} s; try again"
            ) from None

    async def close(self) -> None:
        """End the process; harmless when there is none. It is not started again."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await self._end()

    def _started(self, task: asyncio.Task[Address]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # taken note of: every caller may have gone before it failed

    async def _start(self) -> Address:
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            wait = self._not_before - now
            raise TemporaryError("connection", "the local model's process has died", retry_after=wait)
        self._not_before = now + self._cooldown_seconds
        await self._end()
        api_key = secrets.token_urlsafe(32)
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the service's to handle, and a drain still needs the model
        )
        try:
            port = await self._ready(self._process, {**self._settings, "api_key": api_key})
        except BaseException:
            await self._end()
            raise
        self._address = Address(f"http://127.0.0.1:{port}/v1", api_key)
        log.info("local_model_started", pid=self._process.pid, port=port)
        return self._address

    async def _ready(self, process: asyncio.subprocess.Process, settings: Mapping[str, Any]) -> int:
        """Tell the process what to serve and wait for its port."""
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        try:
            async with asyncio.timeout(self._start_timeout_seconds):
                process.stdin.write(json.dumps(settings).encode() + b"\n")
                with contextlib.suppress(ConnectionError):  # it died already: the answer, or none, says so
                    await process.stdin.drain()
                answer = await process.stdout.readline()
        except TimeoutError:
            raise TemporaryError(
                "timeout", f"the local model did not start within {self._start_timeout_seconds:g} s"
            ) from None
        report = _parsed(answer)
        if "port" not in report:
            log.error("local_model_failed", reason=report.get("error", "it ended without a word"))
            raise TemporaryError(
                "server_error", "the local model's process could not start; the log says why"
            )
        return int(report["port"])

    async def _end(self) -> None:
        process, self._process, self._address = self._process, None, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _parsed(answer: bytes) -> dict[str, Any]:
    try:
        report = json.loads(answer)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}
