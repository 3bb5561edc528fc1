"""What a call to a model costs: our adapters beside bare aiohttp and the vendors' own packages."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from rich.table import Table

from tests.bench.callers import CALLERS
from tests.service_process import ROOT

CONCURRENCY: Final = (1, 500)


def adapters(simulator: str, seconds: float) -> list[dict[str, Any]]:
    """Every client at every concurrency, each in a process of its own."""
    return [
        {"who": who, "concurrency": concurrency, **_ask(who, simulator, concurrency, seconds)}
        for concurrency in CONCURRENCY
        for who in CALLERS
    ]


def _ask(who: str, simulator: str, concurrency: int, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.callers", who, "--base", simulator]
    command += ["--concurrency", str(concurrency), "--seconds", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def table(rows: list[dict[str, Any]]) -> Table:
    """For people."""
    shown = Table(title="calls to a model")
    for column in ("client", "at", "calls/s", "CPU ms/call", "p50 ms", "p99", "errors"):
        shown.add_column(column, justify="left" if column == "client" else "right")
    for row in rows:
        figures = [row["skipped"]]
        if not row["skipped"]:
            figures = [f"{row['per_second']:.0f}", f"{row['cpu_ms']:.3f}"]
            figures += [f"{row['p50']:.1f}", f"{row['p99']:.1f}", str(row["errors"])]
        shown.add_row(row["who"], str(row["concurrency"]), *figures)
    return shown
