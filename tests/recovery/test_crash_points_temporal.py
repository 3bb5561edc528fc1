"""A run that waits for an approval, with the API or its worker killed at every point that they pass.

The journal is in PostgreSQL, Temporal places the run. Every case starts one process that kills itself, has
the run submitted under a key and approved by a client that repeats what was not answered, and replaces the
process once it is dead. The end is that of an undisturbed run, and the approval is answered once.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.engines.temporal.cluster import Cluster, WorkerProcess
from tests.postgresql_server import database_of
from tests.recovery.accounts import Deaths
from tests.recovery.crashing import CRASH_AT, PASSAGES
from tests.recovery.services import CRASHING
from tests.recovery.stored import integrity, stored_runs
from tests.recovery.test_crash_points import points_of
from tests.service_process import ServiceProcess, free_port
from tests.simulator.process import Simulator
from tests.temporal_server import TemporalServer, start_temporal

pytestmark = [pytest.mark.temporal, pytest.mark.timeout(240)]

ENDS_WITHIN: Final = 90.0
"""An answer that nobody was told of is found after ten seconds; the rest is for a machine that is busy."""
KEY: Final = "the-only-submission"
DOCUMENT: Final[dict[str, Any]] = {
    "name": "asking",
    "steps": [
        {"id": "first", "type": "llm", "provider": "sim", "model": "echo", "prompt": "one"},
        {"id": "ok", "type": "approval", "message": "May it?", "depends_on": ["first"]},
        {
            "id": "last",
            "type": "llm",
            "provider": "sim",
            "model": "echo",
            "prompt": "{{ steps.first.text }} {{ steps.ok.action }} two",
        },
    ],
    "outputs": {"answer": "{{ steps.last.text }}"},
}
CALLS: Final = ("first", "last")
LATENCY_MS: Final = 600
"""Of the simulator: longer than a worker waits before its first heartbeat."""
API_POINTS: Final = points_of(
    {"create": 1, "commit": 1, "transaction": 1, "acknowledge": 1, "place": 2, "ask": 1}
)
WORKER_POINTS: Final = points_of(
    {"take": 2, "beat": 1, "consume": 2, "append": 5, "transaction": 5, "dispatch": 2, "settle": 1}
)
TELLING: Final = [
    ("api", "place.before:1"),
    ("worker", "take.after:1"),
    ("worker", "settle.before:1"),
]
"""Those that are worth their time in every run of the tests; the others come with the chaos tests."""
POINTS: Final = [
    *(("api", point) for point in API_POINTS),
    *(("worker", point) for point in WORKER_POINTS),
]


@pytest.fixture(scope="module")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """A server that is not to be stopped."""
    with start_temporal(tmp_path_factory.mktemp("temporal")) as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path, simulator: Simulator, temporal: TemporalServer) -> Iterator[Cluster]:
    """Starts processes on a new database; whatever still runs at the end is killed."""
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, simulator, temporal, f"q-{uuid.uuid4().hex[:8]}", stack)
        cluster.shared["ORCHESTRATOR_STORE__URL"] = database_of(cluster.data_dir)
        yield cluster


@dataclass(slots=True)
class Stage:
    """An API process and a worker, of which one will kill itself."""

    cluster: Cluster
    who: str
    point: str | None
    port: int = field(default_factory=free_port)
    api: ServiceProcess = field(init=False)
    worker: WorkerProcess = field(init=False)
    deaths: Deaths = field(default_factory=Deaths)

    @property
    def record(self) -> Path:
        """Where the passages stand."""
        return self.cluster.folder / "passages"

    def start(self) -> None:
        """Start both; one of them may be dead before it is ready."""
        self.api, self.worker = self._api("api"), self._worker("worker")

    def replace(self) -> None:
        """Put another in the place of the one that dies."""
        process = self.api if self.who == "api" else self.worker.process
        assert process.wait(ENDS_WITHIN) == -9, self.worker.log()[-2000:] + self.api.log()[-2000:]
        assert self.point in self.record.read_text().split()
        self.deaths.note(self.cluster.data_dir, self.cluster.simulator, live=True)
        if self.who == "api":
            self.api = self._api("")
        else:
            self.worker = self._worker("")

    def _crashing(self, name: str) -> dict[str, str]:
        if name != self.who:
            return {}
        return {PASSAGES: str(self.record), **({CRASH_AT: self.point} if self.point else {})}

    def _api(self, name: str) -> ServiceProcess:
        crashing = self._crashing(name)
        command = CRASHING if crashing else ("-m", "app.cli", "serve")
        environment = self.cluster.environment(crashing)
        folder = self.cluster.folder / "api"
        service = ServiceProcess(folder, environment=environment, command=command, port=self.port)
        service.start()
        self.cluster.stack.callback(service.kill)
        return service

    def _worker(self, name: str) -> WorkerProcess:
        crashing = self._crashing(name)
        if crashing:
            return self.cluster.starting(None, program=(*CRASHING, "--worker"), **crashing)
        return self.cluster.starting()

    async def play(self) -> str:
        """Submit, approve, wait for the end; the id of the run."""
        async with (
            httpx.AsyncClient(base_url=self.api.url, trust_env=False, timeout=20) as http,
            asyncio.timeout(ENDS_WITHIN),
            asyncio.TaskGroup() as group,
        ):
            if self.point is not None:
                group.create_task(asyncio.to_thread(self.replace))
            run_id = await self._submitted(http)
            await self._ended(http, run_id)
            assert await self._submitted(http) == run_id
        return run_id

    async def _submitted(self, http: httpx.AsyncClient) -> str:
        headers = {"Idempotency-Key": KEY}
        while True:
            with suppress(httpx.TransportError):
                answer = await http.post("/v1/runs", json={"workflow": DOCUMENT}, headers=headers)
                if answer.status_code != 503:
                    assert answer.status_code == 202, answer.text
                    return str(answer.json()["id"])
            await asyncio.sleep(0.05)

    async def _ended(self, http: httpx.AsyncClient, run_id: str) -> None:
        while (await self._get(http, f"/v1/runs/{run_id}"))["status"] != "completed":
            for approval in (await self._get(http, "/v1/approvals"))["data"]:
                with suppress(httpx.TransportError):
                    answer = await http.post(f"/v1/approvals/{approval['id']}", json={"action": "approve"})
                    # Kept until a worker takes it up, or answered by the submission that nobody heard of.
                    assert answer.status_code in {200, 409, 410, 503}, answer.text
            await asyncio.sleep(0.05)

    async def _get(self, http: httpx.AsyncClient, path: str) -> dict[str, Any]:
        while True:
            with suppress(httpx.TransportError):
                answer = await http.get(path)
                return dict(answer.raise_for_status().json())
            await asyncio.sleep(0.05)

    def check(self, run_id: str) -> None:
        """It ended as if nothing had happened."""
        self.api.kill()
        self.worker.kill()
        runs = stored_runs(self.cluster.data_dir)
        assert list(runs) == [run_id]
        run = runs[run_id]
        assert (run.flaws(), run.status) == ([], "completed")
        assert run.outputs == {"answer": "one approve two"}
        assert run.of("StepSucceeded") == list(CALLS)
        assert run.of("ApprovalAnswered") == ["ok"]
        calls = self.cluster.simulator.stats().by_key
        known = self.deaths.calls_of_succeeded
        assert {key: calls.get(key, 0) for key in known} == known
        lost = Counter(run.of("AttemptLost"))
        assert lost.total() <= 1
        assert all(1 <= calls[f"{run_id}:{step}"] <= 1 + lost[step] for step in CALLS)
        assert integrity(self.cluster.data_dir) == "ok"


async def survive(cluster: Cluster, who: str, point: str | None) -> Stage:
    """Die there, or not at all."""
    cluster.simulator.control(latency_ms=LATENCY_MS)
    stage = Stage(cluster, who, point)
    stage.start()
    run_id = await stage.play()
    await asyncio.to_thread(stage.check, run_id)
    return stage


@pytest.mark.parametrize(("who", "point"), TELLING)
async def test_a_run_whose_process_is_killed_there_ends_as_if_nothing_had_happened(
    cluster: Cluster, who: str, point: str
) -> None:
    await survive(cluster, who, point)


@pytest.mark.chaos
@pytest.mark.parametrize(("who", "point"), [it for it in POINTS if it not in TELLING])
async def test_a_run_whose_process_is_killed_anywhere_ends_as_if_nothing_had_happened(
    cluster: Cluster, who: str, point: str
) -> None:
    await survive(cluster, who, point)


@pytest.mark.chaos
@pytest.mark.parametrize(("who", "points"), [("api", API_POINTS), ("worker", WORKER_POINTS)])
async def test_an_undisturbed_run_passes_every_point(cluster: Cluster, who: str, points: list[str]) -> None:
    stage = await survive(cluster, who, None)
    assert {*points} <= {*stage.record.read_text().split()}
