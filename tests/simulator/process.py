"""Starting, asking and stopping the simulator from tests and benchmarks.

with start_simulator(latency_ms=20) as simulator:
    ... OpenAIConfig(name="sim", base_url=simulator.base_url) ...
    assert simulator.stats().calls == 1
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What the simulator saw since the last reset; see `tests.simulator.ledger.Ledger`."""

    calls: int
    answered: int
    in_flight: int
    max_in_flight: int
    open_sockets: int
    """Connections, the one that asked for this included."""
    by_key: Mapping[str, int]
    answered_by_key: Mapping[str, int]
    by_content: Mapping[str, int]
    aborted: list[dict[str, Any]]
    """`{at, key, model}`; `at` compares with `time.monotonic()` of this machine."""
    hooks: list[dict[str, Any]]
    """`{method, path, headers, body}`."""
    last_headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulator:
    """A running simulator."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI-compatible client is configured with."""
        return f"{self.url}/v1"

    def stats(self) -> Stats:
        """What it saw."""
        return _stats(self._ask("GET", "/_stats"))

    def wait(self, *, seconds: float = 10.0, **counts: int) -> Stats:
        """Wait until `calls`, `answered`, `aborted`, `hooks` or `in_flight` reach a number each, or
        `open_at_most` sockets are left. Raises `TimeoutError` when they do not.
        """
        query = "&".join(f"{name}={number}" for name, number in {**counts, "seconds": seconds}.items())
        stats = _stats(self._ask("GET", f"/_wait?{query}", timeout=seconds + 5))
        for name, number in counts.items():
            if not _reached(stats, name, number):
                raise TimeoutError(f"{name} did not reach {number} within {seconds:g} s: {stats}")
        return stats

    def fail(
        self, match: str, fault: str, *, times: int | None = None, retry_after: str | None = None
    ) -> None:
        """Let calls fail whose model or path is `match` (`*` for all), the next `times` or for ever."""
        rule = {"match": match, "fault": fault, "times": times, "retry_after": retry_after}
        self.control(faults=[rule])

    def control(self, **orders: Any) -> None:
        """Give orders: `faults`, `latency_ms`, `spread_ms`, `stream_gap_ms`, `texts`."""
        self._ask("POST", "/_control", json.dumps(orders))

    def reset(self) -> None:
        """Forget what was seen and every order but the latency."""
        self._ask("POST", "/_reset", "{}")

    def _ask(self, method: str, path: str, body: str | None = None, *, timeout: float = 10.0) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            content = json.loads(answer.read())
            if answer.status != http.client.OK:
                raise ValueError(f"the simulator refused {method} {path}: {content}")
            return content
        finally:
            connection.close()


@contextmanager
def start_simulator(
    *, latency_ms: float = 0.0, port: int = 0, host: str = "127.0.0.1"
) -> Iterator[Simulator]:
    """A simulator as a process of its own, on a free port, ended with the block."""
    command = [sys.executable, "-m", "tests.simulator", "--host", host, "--port", str(port)]
    command += ["--latency-ms", str(latency_ms)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the simulator ended with {process.wait()} before it was ready")
        yield Simulator(**json.loads(line))
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _stats(content: Mapping[str, Any]) -> Stats:
    return Stats(**{field.name: content[field.name] for field in fields(Stats)})


def _reached(stats: Stats, name: str, number: int) -> bool:
    if name == "open_at_most":
        return stats.open_sockets <= number
    value = getattr(stats, name)
    return (value if isinstance(value, int) else len(value)) >= number
