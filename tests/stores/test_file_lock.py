"""The file lock between processes."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.ports.errors import StoreError
from app.stores.file_lock import LOCK_FILE, FileLock

HOLDER = """
import asyncio, sys
from pathlib import Path
from app.stores.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print(asyncio.run(lock.acquire()), flush=True)
sys.stdin.read()
"""

FORKING_HOLDER = """
import asyncio, os, sys
from pathlib import Path
from app.stores.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
assert asyncio.run(lock.acquire())
if os.fork() == 0:
    print("child lives, lock held:", lock.held, flush=True)
sys.stdin.read()
"""


def test_a_directory_that_is_missing_is_named_as_a_setting(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="data_dir") as caught:
        asyncio.run(FileLock(tmp_path / "missing").acquire())
    assert str(tmp_path) not in str(caught.value)


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        lock = FileLock(tmp_path)
        assert not asyncio.run(lock.acquire())
        holder.kill()
        holder.wait()
        assert asyncio.run(lock.acquire())
        asyncio.run(lock.release())


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_holder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKING_HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"child lives, lock held: False\n"
        lock = FileLock(tmp_path)
        assert not asyncio.run(lock.acquire())
        holder.kill()
        holder.wait()
        assert asyncio.run(lock.acquire())
        asyncio.run(lock.release())


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    lock = FileLock(tmp_path)
    asyncio.run(lock.acquire())
    assert stat.S_IMODE((tmp_path / LOCK_FILE).stat().st_mode) == 0o600
    asyncio.run(lock.release())
