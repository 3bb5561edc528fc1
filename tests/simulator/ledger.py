"""What the simulator remembers: calls by key and by content, aborted calls, hooks, open sockets."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

WAITABLE = ("calls", "answered", "aborted", "hooks", "in_flight")
"""Counts that can be waited for to reach a number."""


@dataclass(slots=True)
class Ledger:
    """Times are seconds of the machine's monotonic clock, which all of its processes share."""

    calls: int = 0
    answered: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    open_sockets: int = 0
    by_key: Counter[str] = field(default_factory=Counter)
    """Calls by `Idempotency-Key`."""
    answered_by_key: Counter[str] = field(default_factory=Counter)
    by_content: Counter[str] = field(default_factory=Counter)
    """Calls by the first 16 hex digits of the body's BLAKE2b."""
    aborted: list[dict[str, Any]] = field(default_factory=list)
    """Calls whose socket closed before the answer was sent."""
    hooks: list[dict[str, Any]] = field(default_factory=list)
    last_headers: dict[str, str] = field(default_factory=dict)
    watchers: list[Callable[[], bool]] = field(default_factory=list)
    """Asked after every change; one that says True is dropped."""

    def called(self, key: str, content: bytes, headers: Mapping[str, str]) -> None:
        """A call came in."""
        self.calls += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.by_key[key] += 1
        self.by_content[hashlib.blake2b(content, digest_size=8).hexdigest()] += 1
        self.last_headers = dict(headers)
        self.changed()

    def ended(self, key: str, model: str, *, whole: bool) -> None:
        """A call was answered to its end, or its socket closed before that."""
        self.in_flight -= 1
        if whole:
            self.answered += 1
            self.answered_by_key[key] += 1
        else:
            self.aborted.append({"at": time.monotonic(), "key": key, "model": model})
        self.changed()

    def changed(self) -> None:
        """Wake who waits."""
        if self.watchers:
            self.watchers = [watcher for watcher in self.watchers if not watcher()]

    def reset(self) -> None:
        """Forget everything but what is open now."""
        self.calls = self.answered = 0
        self.max_in_flight = self.in_flight
        for counts in (self.by_key, self.answered_by_key, self.by_content):
            counts.clear()
        self.aborted.clear()
        self.hooks.clear()
        self.last_headers = {}

    def snapshot(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "calls": self.calls,
            "answered": self.answered,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "open_sockets": self.open_sockets,
            "by_key": dict(self.by_key),
            "answered_by_key": dict(self.answered_by_key),
            "by_content": dict(self.by_content),
            "aborted": self.aborted,
            "hooks": self.hooks,
            "last_headers": self.last_headers,
        }

    def count(self, name: str) -> int:
        """One of `WAITABLE`, or `open_sockets`."""
        value = getattr(self, name)
        return value if isinstance(value, int) else len(value)
