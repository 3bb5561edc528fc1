"""Vector search by database, number of records and length of vectors: latency, recall, load time, memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table

from tests.service_process import ROOT

STORES: Final = ("embedded", "pgvector", "pgvector-hnsw")
COUNTS: Final = (10_000, 100_000)
DIMENSIONS: Final = (384, 1536)


def vectors(
    stores: Sequence[str], counts: Sequence[int], dimensions: Sequence[int], searches: int
) -> list[dict[str, Any]]:
    """Every combination, each in a process of its own."""
    return [
        {"store": store, "count": count, "dimensions": size, **_ask(store, count, size, searches)}
        for size in dimensions
        for count in counts
        for store in stores
    ]


def _ask(store: str, count: int, dimensions: int, searches: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.vector_search", store, "--count", str(count)]
    command += ["--dimensions", str(dimensions), "--searches", str(searches)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """For people: searches without and with the filter."""
    shown = Table(title="vector search, one after the other; the filter lets a tenth through")
    columns = ("database", "records", "length", "filter", "p50 ms", "p99", "p99.9", "first ms")
    for column in (*columns, "recall@10", "load s", "RSS MiB", "added"):
        shown.add_column(column, justify="left" if column in {"database", "filter"} else "right")
    for row in rows:
        place = [row["store"], f"{row['count']:,}", str(row["dimensions"])]
        if row["skipped"]:
            shown.add_row(*place, row["skipped"])
            continue
        for kind, filtered in (("plain", "no"), ("filtered", "yes")):
            took = row[kind]
            figures = [f"{took[key]:.1f}" for key in ("p50_ms", "p99_ms", "p99.9_ms", "first_ms")]
            memory = [f"{row['load_seconds']:.1f}", f"{row['rss_mib']:.0f}", f"{row['added_rss_mib']:.0f}"]
            shown.add_row(*place, filtered, *figures, f"{took['recall']:.3f}", *memory)
    return shown
