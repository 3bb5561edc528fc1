"""Service processes of one test, and what a client of one does.

A `Client` speaks HTTP only and remembers nothing; ledgers belong to the tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.bench.processes import service_environment
from tests.recovery.chain import submission
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator

SERVE: Final = ("-m", "app.cli", "serve")
CRASHING: Final = ("-m", "tests.recovery.crashing")
ENDS_WITHIN: Final = 60.0
"""Seconds that a run may take to its end, on a machine that does much else."""


@dataclass(frozen=True, slots=True)
class Services:
    """Starts services on data directories below `folder`, each calling the simulator as `sim`."""

    folder: Path
    simulator: Simulator
    stack: ExitStack
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables of all of them."""

    @property
    def data_dir(self) -> Path:
        """Where they keep their data, unless told otherwise."""
        return self.folder / "data"

    def environment(self, extra: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """Of each of them."""
        return service_environment(self.simulator.url, **self.settings, **(extra or {}))

    def start(
        self,
        *,
        data_dir: Path | None = None,
        command: Sequence[str] = SERVE,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ServiceProcess:
        """A service that has been started, ready or not."""
        service = ServiceProcess(
            data_dir or self.data_dir,
            environment=self.environment(environment),
            command=command,
            port=port,
        )
        service.start()
        self.stack.callback(service.kill)
        return service

    def ready(self, **options: Any) -> ServiceProcess:
        """A service that answers 200 on /readyz."""
        service = self.start(**options)
        service.wait_ready()
        return service


class Client:
    """A client of one service."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def submit(self, word: str, *, key: str | None = None, **more: Any) -> httpx.Response:
        """POST a run of the chain, whatever comes of it."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.http.post("/v1/runs", json=submission(word, **more), headers=headers)

    def accepted(self, word: str, *, key: str | None = None, **more: Any) -> str:
        """The id of a run that was acknowledged."""
        answer = self.submit(word, key=key, **more)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def runs(self) -> list[Mapping[str, Any]]:
        """The newest hundred runs."""
        return list(self.http.get("/v1/runs?limit=100").raise_for_status().json()["data"])

    def ended(self, run_id: str) -> Mapping[str, Any]:
        """The run after its terminal event, for which this waits."""
        self.follow(run_id)
        return dict(self.http.get(f"/v1/runs/{run_id}").raise_for_status().json())

    def follow(self, run_id: str) -> list[Mapping[str, Any]]:
        """All events of a run up to its terminal one."""
        url = f"/v1/runs/{run_id}/events"
        with self.http.stream("GET", url, headers={"Accept": "application/x-ndjson"}) as answer:
            answer.raise_for_status()
            return [json.loads(line) for line in answer.iter_lines() if line]

    def status(self, path: str) -> int:
        """The status code of a GET."""
        return self.http.get(path).status_code

    def checks(self) -> Mapping[str, Mapping[str, Any]]:
        """What /readyz says of each check."""
        return dict(self.http.get("/readyz").json()["checks"])


@contextmanager
def client_of(service: ServiceProcess) -> Iterator[Client]:
    """A client for as long as the context is open. Every request is a connection of its own."""
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=service.url, trust_env=False, timeout=ENDS_WITHIN, limits=limits) as http:
        yield Client(http)
