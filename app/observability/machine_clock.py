"""The machine's clock, and how long the machine has been up."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Final

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_UPTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, where there is such a one."""


class MachineClock:
    """Implements `app.ports.clock.Clock`."""

    def __init__(self) -> None:
        self.machine = _boot_id()

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def uptime(self) -> float:
        """Seconds since the machine was started."""
        return time.clock_gettime(_UPTIME)


def _boot_id() -> str:
    """One for all processes since a start; where the system has none, a process is a start of its own."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return str(uuid.uuid4())
