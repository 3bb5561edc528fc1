"""A clock that a test sets while a service runs: libfaketime over the service's own.

Elapsed time is not touched, as when somebody sets the clock of a machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conftest import require_or_skip

PLACES: Final = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")
LIBRARY: Final = "libfaketimeMT.so.1"


@dataclass(frozen=True, slots=True)
class FakedTime:
    """The clock of the processes that are started with `environment`."""

    stamp: Path
    library: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Of a process that goes by this clock."""
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.stamp),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: float) -> None:
        """Let it be that much ahead of this machine's clock; behind it, if negative."""
        new = self.stamp.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n", encoding="ascii")
        new.replace(self.stamp)

    def now(self) -> float:
        """What it shows."""
        return time.time() + float(self.stamp.read_text(encoding="ascii"))


def faked_time(folder: Path) -> FakedTime:
    """A clock that is right so far; skips the test where there is no libfaketime."""
    found = [path / LIBRARY for place in PLACES for path in Path("/").glob(place[1:])]
    library = next((path for path in found if path.exists()), None)
    if library is None:
        require_or_skip("there is no libfaketime", "install Debian's faketime")
    clock = FakedTime(folder / "clock", library)
    clock.set(0)
    return clock
