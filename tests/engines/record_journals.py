"""`python -m tests.engines.record_journals`: records journals of this release, one file a run.

They stand below `tests/histories/journals`. A recording is never replaced: later releases have to read what
earlier ones wrote. A release that writes something new adds its own, under its own version.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from app.ports.runs import JournalRow
from tests.acceptance.documents import STALLS, approval, ask, call, flow, transform
from tests.engines.journals import FOLDER, RecordedRun
from tests.recovery.services import Client, Services, client_of
from tests.recovery.stored import stored_journals
from tests.recovery.test_nested_kills import CALLED, NESTED, WORDS
from tests.service_process import ServiceProcess
from tests.simulator.process import start_simulator

REACHED_WITHIN: Final = 20.0
QUICK: Final = {"max_attempts": 3, "initial_delay_ms": 20, "max_delay_ms": 50}
BLIND: Final = {"action": "continue", "value": "nothing"}
FAILS: Final = "fault:bad_request"


class Recorder:
    """One service on one store; `run` submits, `ended` waits."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.simulator = services.simulator
        self.service, self.client = self._started()

    def _started(self) -> tuple[ServiceProcess, Client]:
        service = self._services.ready(
            environment={
                "ORCHESTRATOR_EGRESS__ALLOW_PRIVATE": "true",
                "ORCHESTRATOR_ACTIONS__WEBHOOK_URL": f"{self._services.simulator.url}/hook",
            }
        )
        return service, self._services.stack.enter_context(client_of(service))

    def begin(self, document: Mapping[str, Any], **more: Any) -> str:
        """The id of a run."""
        answer = self.client.http.post("/v1/runs", json={"workflow": document, **more})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def whole(self, document: Mapping[str, Any], **more: Any) -> str:
        """The id of a run that has ended by itself."""
        run_id = self.begin(document, **more)
        self.client.ended(run_id)
        return run_id

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        """Ask something of a run."""
        self.client.http.post(path, json=body or {}).raise_for_status()

    def until(self, run_id: str, status: str) -> None:
        """Wait until the run has this status."""
        deadline = time.monotonic() + REACHED_WITHIN
        while (found := self.client.http.get(f"/v1/runs/{run_id}").json()["status"]) != status:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def approve(self) -> None:
        """Answer the one question there is."""
        (question,) = self.client.http.get("/v1/approvals").json()["data"]
        self.post(f"/v1/approvals/{question['id']}", {"action": "approve"})

    def kill(self) -> None:
        """SIGKILL, and a new process on the same store."""
        self.service.kill()
        self.service, self.client = self._started()


def every_kind(it: Recorder) -> str:
    """Each kind of step that does something, gates and what replaces a failure."""
    vector = {"database": "embedded", "index": "recorded"}
    rows = [{"id": "a", "vector": [1.0, 0.0], "metadata": {"text": "one"}}]
    return it.whole(
        flow(
            {
                "id": "embed",
                "type": "embed",
                "provider": "echo",
                "model": "e",
                "input": "one",
                "dimensions": 2,
            },
            {"id": "put", "type": "vector_upsert", **vector, "vectors": rows},
            {"id": "find", "type": "vector_search", **vector, "query": [1.0, 0.0], "depends_on": ["put"]},
            {"id": "drop", "type": "vector_delete", **vector, "ids": ["a"], "depends_on": ["find"]},
            {
                "id": "rank",
                "type": "rerank",
                "provider": "echo",
                "model": "r",
                "query": "red fox",
                "documents": ["a blue bird", "a red fox"],
            },
            {"id": "fetch", "type": "http", "method": "POST", "url": f"{it.simulator.url}/hook", "json": {}},
            {"id": "tell", "type": "action", "action": "notify", "parameters": {"to": "somebody"}},
            transform("sum", "1 + 1"),
            ask("never", condition="steps.sum.result == 3", depends_on=["sum"]),
            ask("after", depends_on=["never"]),
            transform("gated", "1", condition="steps.sum.result == 2", depends_on=["sum"]),
            transform("wrong", "steps.sum.result.nothing.more", depends_on=["sum"], on_error=BLIND),
            ask("broken", model=FAILS, on_error=BLIND),
            name="every kind",
        )
    )


def blocks(it: Recorder) -> str:
    """Every block, a wait that parks, a question, and a run that is called."""
    it.client.http.post("/v1/workflows", json=CALLED).raise_for_status()
    run_id = it.begin(NESTED, inputs={"words": WORDS})
    it.until(run_id, "waiting")
    deadline = time.monotonic() + REACHED_WITHIN
    while not it.client.http.get("/v1/approvals").json()["data"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    it.approve()
    it.client.ended(run_id)
    return run_id


def launched(it: Recorder) -> str:
    """A run is called that nobody waits for."""
    it.client.http.post("/v1/workflows", json=CALLED).raise_for_status()
    return it.whole(flow(call("called", wait=False, inputs={"word": "x"}), name="launched"))


def distributed(it: Recorder) -> str:
    """A map whose items are runs of their own."""
    step = {"id": "each", "type": "map", "items": "inputs.words", "distribute": True}
    return it.whole(
        flow({**step, "steps": [ask("say", prompt="{{ item }}")]}, name="distributed"),
        inputs={"words": list(WORDS)},
    )


def retried(it: Recorder) -> str:
    """Two refusals with and without `Retry-After`, then an answer; another step times out and recovers."""
    return it.whole(
        flow(
            ask("a", model="fault:rate_limit:2", retry=QUICK),
            ask("b", model=STALLS, timeout_seconds=0.2, retry="never", on_error=BLIND),
            name="retried",
        )
    )


def failed(it: Recorder) -> str:
    """A failure that nothing recovers: dependents are skipped, and it is told."""
    return it.whole(
        flow(
            ask("a", model=FAILS, retry="never"),
            ask("b", depends_on=["a"]),
            {"id": "fan", "type": "parallel", "tasks": [ask("x"), ask("y", model=FAILS)]},
            name="failed",
            on_failure=[ask("sorry", prompt="{{ run.status }}")],
            **{"finally": [ask("bye")]},
        )
    )


def no_outputs(it: Recorder) -> str:
    """Every step ends well, and the outputs cannot be made."""
    return it.whole(flow(ask("a"), name="no outputs", outputs={"x": "{{ steps.a.text.nothing.more }}"}))


def unevaluated(it: Recorder) -> str:
    """What a map goes over is no list; a gate cannot be evaluated."""
    return it.whole(
        flow(
            transform("text", "'no list'"),
            {
                "id": "each",
                "type": "map",
                "items": "steps.text.result",
                "depends_on": ["text"],
                "steps": [ask("say")],
                "on_error": BLIND,
            },
            ask("gate", condition="steps.text.result > 3", depends_on=["text"], on_error=BLIND),
            name="unevaluated",
        )
    )


def out_of_time(it: Recorder) -> str:
    """A block and then the run take longer than they may."""
    slow = {"id": "block", "type": "parallel", "tasks": [ask("x", model=STALLS)], "timeout_seconds": 0.3}
    return it.whole(
        flow(
            {**slow, "on_error": BLIND},
            ask("slow", model=STALLS),
            name="out of time",
            timeout_seconds=1,
            **{"finally": [ask("bye")]},
        )
    )


def silence(it: Recorder) -> str:
    """Nobody answers."""
    return it.whole(flow(approval(timeout_seconds=1, on_timeout="approve"), ask("b"), name="silence"))


def cancelled(it: Recorder) -> str:
    """Somebody ends it while a call is in flight."""
    run_id = it.begin(flow(ask("a", model=STALLS), ask("b", depends_on=["a"]), name="cancelled"))
    it.simulator.wait(in_flight=1)
    it.post(f"/v1/runs/{run_id}/cancel", {"reason": "enough"})
    it.client.ended(run_id)
    return run_id


def paused(it: Recorder) -> str:
    """Somebody holds it, and lets it go on."""
    it.simulator.control(latency_ms=300)
    run_id = it.begin(flow(ask("a"), ask("b", depends_on=["a"]), name="paused"))
    it.simulator.wait(in_flight=1)
    it.post(f"/v1/runs/{run_id}/pause", {"reason": "look"})
    it.until(run_id, "paused")
    it.simulator.control(latency_ms=0)
    it.post(f"/v1/runs/{run_id}/resume")
    it.client.ended(run_id)
    return run_id


def within_budget(it: Recorder) -> str:
    """A budget that is used up pauses it; with a larger one it goes on."""
    document = flow(
        ask("a", max_tokens=20),
        ask("b", max_tokens=20, depends_on=["a"]),
        name="within budget",
        budget={"max_tokens": 30, "on_exceeded": "pause"},
    )
    run_id = it.begin(document)
    it.until(run_id, "paused")
    it.post(f"/v1/runs/{run_id}/resume", {"budget": {"max_tokens": 1000}})
    it.client.ended(run_id)
    return run_id


def killed(it: Recorder) -> str:
    """The process dies in mid-call and while the run is parked; another one goes on."""
    it.simulator.control(latency_ms=60_000)
    run_id = it.begin(
        flow(
            ask("a"),
            {"id": "rest", "type": "wait", "seconds": 2, "depends_on": ["a"]},
            ask("b", depends_on=["rest"]),
            name="killed",
        )
    )
    it.simulator.wait(in_flight=1)
    it.simulator.control(latency_ms=0)
    it.kill()
    it.until(run_id, "waiting")
    it.kill()
    it.client.ended(run_id)
    return run_id


LIVES: Final[Sequence[Callable[[Recorder], str]]] = (
    every_kind,
    blocks,
    launched,
    distributed,
    retried,
    failed,
    no_outputs,
    unevaluated,
    out_of_time,
    silence,
    cancelled,
    paused,
    within_budget,
    killed,
)


def file_name(live: Callable[[Recorder], str]) -> str:
    """What follows the release in the name of a recording."""
    return live.__name__.replace("_", "-")


def recorded(it: Recorder, data_dir: Path, run_id: str) -> RecordedRun:
    """What the store has of a run, and what the service says of it."""
    said = it.client.http.get(f"/v1/runs/{run_id}?include=outputs").raise_for_status().json()
    document, rows = stored_journals(data_dir)[run_id]
    return RecordedRun(
        run_id=run_id,
        document=document,
        said={
            "status": said["status"],
            "outputs": said["outputs"],
            "steps": {step["path"]: step["status"] for step in said["steps"]},
        },
        rows=[
            JournalRow(run_id=run_id, seq=seq, type=kind, payload=payload, at=at)
            for seq, kind, payload, at in rows
        ],
    )


def record_into(folder: Path) -> None:
    """Record every life that the folder has no file of, under this release's version."""
    version = metadata.version("llm-orchestrator")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        simulator = stack.enter_context(start_simulator())
        services = Services(Path(temporary), simulator, stack)
        it = Recorder(services)
        for live in LIVES:
            target = folder / f"{version}-{file_name(live)}.ndjson"
            if not target.exists():
                simulator.reset()
                simulator.control(latency_ms=0)
                run_id = live(it)
                recorded(it, services.data_dir, run_id).write(target)


if __name__ == "__main__":
    record_into(FOLDER)
