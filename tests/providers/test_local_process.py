"""The local model's process: one start, a cool-down, an end with its owner. Stand-ins speak its protocol."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from app.ports.errors import TemporaryError
from app.providers.local.process import Address, ModelProcess

ROOT = Path(__file__).parents[2]

SERVES = "import sys; sys.stdin.readline(); print('{\"port\": 4711}', flush=True); sys.stdin.read()"
DIES = "import sys; sys.exit(3)"
CANNOT = 'import sys; sys.stdin.readline(); print(\'{"error": "no such file /secret/place"}\', flush=True)'
BABBLES = "print('hello', flush=True)"
HANGS = "import sys; sys.stdin.read()"
STAYS = SERVES + "\nwhile True: sys.stdin.read(); import time; time.sleep(0.05)"
COUNTS = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n')\n" + SERVES


@asynccontextmanager
async def running(program: str, *arguments: str, **options: float) -> AsyncIterator[ModelProcess]:
    process = ModelProcess({}, command=[sys.executable, "-c", program, *arguments], **options)
    try:
        yield process
    finally:
        await process.close()


async def until(happened: Callable[[], bool]) -> bool:
    """Whether something outside this process happens within some seconds."""
    for _ in range(500):
        if happened():
            return True
        await asyncio.sleep(0.01)
    return False


async def gone(pid: int) -> bool:
    """Whether a process ends; a zombie of another parent counts as ended."""
    return await until(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    )


@pytest.mark.parametrize("program", [DIES, CANNOT, BABBLES])
async def test_a_process_that_cannot_start_is_a_server_error_without_its_details(program: str) -> None:
    async with running(program) as process:
        with pytest.raises(TemporaryError, match="could not start") as caught:
            await process.address(timeout_seconds=10)
        assert caught.value.error_class == "server_error"
        assert "/secret/place" not in str(caught.value)
        assert process.pid is None


async def test_a_failed_start_is_not_repeated_before_the_cool_down_ends() -> None:
    async with running(DIES, cooldown_seconds=60) as process:
        with pytest.raises(TemporaryError, match="could not start"):
            await process.address(timeout_seconds=10)
        with pytest.raises(TemporaryError, match="has died") as caught:
            await process.address(timeout_seconds=10)
        assert caught.value.error_class == "connection"
        assert caught.value.retry_after is not None
        assert 0 < caught.value.retry_after <= 60


async def test_a_process_that_is_never_ready_is_a_timeout_and_is_ended() -> None:
    async with running(HANGS, start_timeout_seconds=0.3) as process:
        with pytest.raises(TemporaryError) as caught:
            await process.address(timeout_seconds=10)
        assert caught.value.error_class == "timeout"
        assert process.pid is None


async def test_a_caller_waits_no_longer_than_its_own_time_and_leaves_the_start_alone() -> None:
    slow = "import time; time.sleep(0.5)\n" + SERVES
    async with running(slow) as process:
        with pytest.raises(TemporaryError, match=r"0\.05 s"):
            await process.address(timeout_seconds=0.05)
        assert (await process.address(timeout_seconds=10)).base_url == "http://127.0.0.1:4711/v1"


async def test_however_many_ask_one_process_is_started(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    async with running(COUNTS, str(starts)) as process:
        asking = [asyncio.ensure_future(process.address(timeout_seconds=10)) for _ in range(20)]
        await asyncio.sleep(0)
        asking[0].cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        [address] = {answer for answer in answers[1:] if isinstance(answer, Address)}
        assert address.base_url == "http://127.0.0.1:4711/v1"
        assert await process.address(timeout_seconds=10) == address
        assert starts.read_text().split() == [str(process.pid)]


async def test_a_process_that_died_is_started_again_with_another_key() -> None:
    async with running(SERVES, cooldown_seconds=0) as process:
        first = await process.address(timeout_seconds=10)
        pid = process.pid
        assert pid is not None
        psutil.Process(pid).kill()
        assert await until(lambda: process.pid is None)
        second = await process.address(timeout_seconds=10)
        assert process.pid != pid
        assert first.api_key != second.api_key


async def test_the_key_is_neither_shown_nor_on_the_command_line() -> None:
    async with running(SERVES) as process:
        address = await process.address(timeout_seconds=10)
        assert len(address.api_key) >= 32
        assert address.api_key not in repr(address)
        assert address.api_key not in " ".join(psutil.Process(process.pid).cmdline())


@pytest.mark.parametrize("program", [SERVES, STAYS])
async def test_closing_ends_the_process_even_one_that_does_not_listen(program: str) -> None:
    process = ModelProcess({}, command=[sys.executable, "-c", program])
    await process.address(timeout_seconds=10)
    pid = process.pid
    assert pid is not None
    await process.close()
    assert await gone(pid)
    with pytest.raises(TemporaryError, match="shut down"):
        await process.address(timeout_seconds=10)
    await process.close()


async def test_closing_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    process = ModelProcess(
        {}, command=[sys.executable, "-c", COUNTS.replace("print", "sys.stdin.read(); print"), str(starts)]
    )
    asking = asyncio.ensure_future(process.address(timeout_seconds=10))
    assert await until(lambda: starts.exists() and starts.read_text() != "")
    await process.close()
    with pytest.raises((TemporaryError, asyncio.CancelledError)):
        await asking
    assert await gone(int(starts.read_text()))


WATCHES = (
    "import os\n"
    "from app.providers.local.server import wait_for_the_end\n"
    "parent = os.getppid()\n"
    "print(os.getpid(), flush=True)\n"
    "wait_for_the_end(parent)\n"
)


def test_the_server_ends_when_its_input_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WATCHES], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        child.stdin.close()
        assert child.wait(timeout=10) == 0


def test_the_server_ends_with_a_killed_parent_though_its_input_stays_open() -> None:
    reading, writing = os.pipe()
    parent_program = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {WATCHES!r}], stdin={reading})\n"
        "child.wait()\n"
    )
    try:
        with subprocess.Popen(
            [sys.executable, "-c", parent_program], cwd=ROOT, stdout=subprocess.PIPE, pass_fds=[reading]
        ) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline()
            parent.kill()
            assert parent.stdout.read() == b""  # the child had the other end of it, and is gone
    finally:
        os.close(reading)
        os.close(writing)
