"""The executor lock of a data directory: one file, locked by the kernel for as long as its holder lives.

`flock` belongs to the open file, so a second lock object in the same process is a rival like any other.
A forked child would share it and keep it after the holder died; it is therefore closed in every fork
(an exec closes it by itself).
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from app.ports.errors import StoreError

LOCK_FILE = "executor.lock"


def is_locked(data_dir: Path) -> bool:
    """Whether some process executes on this data directory.

    The file is locked for an instant, together with whoever else only looks: a process that starts in that
    very moment stands by until it tries again. Raises `StoreError` when the file cannot be opened.
    """
    try:
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _cannot_open(error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise _cannot_lock(error) from error
    finally:
        os.close(descriptor)
    return False


def _cannot_open(error: OSError) -> StoreError:
    return StoreError(
        f"cannot open {LOCK_FILE!r} in data_dir ({error.strerror}): "
        "make data_dir a directory that this user can write to"
    )


def _cannot_lock(error: OSError) -> StoreError:
    return StoreError(f"the file system of data_dir cannot lock files ({error.strerror}): use a local one")


class FileLock:
    """Locks `<data_dir>/executor.lock`. The file stays behind; only the kernel's lock on it counts."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._descriptor: int | None = None
        drop = weakref.WeakMethod(self._close)
        os.register_at_fork(after_in_child=lambda: (method := drop()) is not None and method())

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    async def acquire(self) -> bool:
        """Try once; True when held now. Raises `StoreError` when the file cannot be opened."""
        return self.held or self._try()

    async def release(self) -> None:
        """Give it up; harmless when not held."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._close()

    def _try(self) -> bool:
        # Neither call waits for anything: one opens a small local file, the other is non-blocking.
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _cannot_open(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise _cannot_lock(error) from error
        self._descriptor = descriptor
        return True

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
