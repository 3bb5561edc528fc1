"""Every document under examples/ is registered and run over HTTP."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.providers.local.models import LocalModels
from tests.acceptance.client import Caller
from tests.conftest import require_or_skip
from tests.service_process import ROOT
from tests.simulator.process import Simulator

EXAMPLES = ROOT / "examples"
OPENAI = {
    "embed_provider": "openai",
    "embed_model": "text-embedding-3-small",
    "index": "handbook-openai",
}


class Handler(SimpleHTTPRequestHandler):
    """Serves files, silently."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def files(tmp_path: Path) -> Iterator[str]:
    """A web server with the JSON that the examples fetch; gives its URL."""
    (tmp_path / "orders.json").write_text(
        '{"orders": [{"id": 1, "status": "open", "total": 5}, {"id": 2, "status": "paid", "total": 7},'
        ' {"id": 3, "status": "open", "total": 9}]}'
    )
    (tmp_path / "tickets").write_text('[{"id": 1, "priority": "urgent"}, {"id": 2, "priority": "low"}]')
    Handler.extensions_map = {**Handler.extensions_map, "": "application/json"}
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def register(caller: Caller, name: str, *, host: str = "https://api.example.com") -> str:
    """Register an example, with another host where it names one; gives the name of its workflow."""
    text = (EXAMPLES / name).read_text()
    response = caller.register(text.replace("https://api.example.com", host))
    assert response.status_code in {200, 201}, response.text
    workflow: str = response.json()["name"]
    return workflow


def completed(run: dict[str, Any]) -> dict[str, Any]:
    assert run["status"] == "completed", run["error"]
    outputs: dict[str, Any] = run["outputs"]
    return outputs


def statuses(run: dict[str, Any]) -> dict[str, str]:
    return {step["path"]: step["status"] for step in run["steps"]}


def documents() -> list[dict[str, str]]:
    return [
        {"id": file.stem, "text": file.read_text().strip(), "source": file.name}
        for file in sorted((EXAMPLES / "knowledge").glob("*.md"))
    ]


def test_no_example_is_left_out() -> None:
    found = {file.relative_to(EXAMPLES).as_posix() for file in EXAMPLES.rglob("*") if file.suffix != ".md"}
    assert {name for name in found if (EXAMPLES / name).is_file()} == set(COVERED)


def moderation(caller: Caller) -> None:
    name = register(caller, "moderation.yaml")
    refused = caller.run(name, {"message": "no JSON at all"})
    assert refused["error"]["error_class"] == "invalid_output"
    run = caller.run(name, {"message": '{"verdict": "block", "reason": "spam"}'})
    assert completed(run) == {"verdict": "block", "reason": "spam"}
    assert statuses(run) == {"classify": "completed", "publish": "skipped", "review": "completed"}


def summarise(caller: Caller) -> None:
    name = register(caller, "summarise.yaml")
    short = caller.run(name, {"text": "One short text."})
    assert completed(short) == {"summary": "One short text.", "pieces": 1}
    assert statuses(short)["ending"] == "skipped"
    long = completed(caller.run(name, {"text": "A sentence of some words. " * 200}))
    assert long["pieces"] > 1


def ingest(caller: Caller, **inputs: str) -> None:
    name = register(caller, "rag/ingest.yaml")
    run = caller.run(name, {"documents": documents(), **inputs})
    assert completed(run) == {"stored": len(documents())}


def ingest_openai(caller: Caller) -> None:
    ingest(caller, **OPENAI)


def answer_openai(caller: Caller) -> None:
    ingest(caller, **OPENAI)
    name = register(caller, "rag/answer.yaml")
    run = caller.run(name, {"question": "When?", "provider": "openai", "model": "gpt-4o-mini", **OPENAI})
    outputs = completed(run)
    assert outputs["answer"] == "The simulated answer."
    assert len(outputs["sources"]) == 2


def greeting(caller: Caller) -> None:
    name = register(caller, "dialect/greeting.json")
    run = caller.run(name, {"person": {"name": "Ada", "town": "London"}})
    assert completed(run) == {"sign": "The simulated answer.\nThe team"}


def notices(caller: Caller) -> None:
    name = register(caller, "dialect/notices.yaml")
    run = caller.run(name, {"feature": "streams", "recipients": ["a@example.com"]})
    completed(run)
    assert set(statuses(run).values()) == {"completed"}


def optional_translation(caller: Caller) -> None:
    name = register(caller, "dialect/optional_translation.yaml")
    skipped = caller.run(name, {"text": "helo"})
    assert statuses(skipped) == {"tidy": "completed", "translate": "skipped"}
    assert statuses(caller.run(name, {"text": "helo", "enable": True}))["translate"] == "completed"


def semantic_search(caller: Caller) -> None:
    ingest(caller, **{**OPENAI, "index": "handbook"})
    name = register(caller, "dialect/semantic_search.yaml")
    outputs = completed(caller.run(name, {"question": "When?"}))
    assert len(outputs["sources"]) == 3


COVERED: dict[str, Callable[[Caller], None] | None] = {
    "moderation.yaml": moderation,
    "summarise.yaml": summarise,
    "rag/ingest.yaml": ingest_openai,
    "rag/answer.yaml": answer_openai,
    "dialect/greeting.json": greeting,
    "dialect/notices.yaml": notices,
    "dialect/optional_translation.yaml": optional_translation,
    "dialect/semantic_search.yaml": semantic_search,
    "etl_http.yaml": None,
    "dialect/reshape.yaml": None,
    "dialect/guarded_answer.yaml": None,
}
"""What each example is expected to do; None: it has a test of its own below."""


@pytest.mark.parametrize("name", [name for name, check in COVERED.items() if check])
def test_an_example_does_what_it_says(name: str, caller: Caller) -> None:
    check = COVERED[name]
    assert check is not None
    check(caller)


def test_the_etl_example_reports_the_open_orders(caller: Caller, files: str, vendor: Simulator) -> None:
    name = register(caller, "etl_http.yaml")
    run = caller.run(name, {"url": f"{files}/orders.json"})
    orders = [{"order": 3, "amount": 9}, {"order": 1, "amount": 5}]
    assert completed(run) == {"count": 2, "orders": orders}
    (hook,) = vendor.stats().hooks
    assert '"action":"open_orders"' in hook["body"]


def test_the_reshape_example_merges_what_it_fetched(caller: Caller, files: str) -> None:
    name = register(caller, "dialect/reshape.yaml", host=files)
    run = caller.run(name, {"team": "support"})
    completed(run)
    urgent = next(
        step for step in caller.get(run["id"], include="outputs")["steps"] if step["path"] == "urgent"
    )
    assert [ticket["id"] for ticket in urgent["outputs"]["result"]] == [1, 1]


@pytest.mark.parametrize(
    ("verdict", "runs", "skipped"), [("safe", "answer", "decline"), ("unsafe", "decline", "answer")]
)
def test_the_guarded_example_takes_the_branch_that_the_model_chose(
    verdict: str, runs: str, skipped: str, caller: Caller, vendor: Simulator
) -> None:
    vendor.control(texts={"gpt-4o-mini": verdict})
    name = register(caller, "dialect/guarded_answer.yaml")
    run = caller.run(name, {"request": "Tell me a joke."})
    completed(run)
    assert statuses(run)[runs] == "completed"
    assert statuses(run)[skipped] == "skipped"


def test_the_rag_example_answers_from_the_packaged_models(caller: Caller) -> None:
    if not (LocalModels.chat_available() and LocalModels.embeddings_available()):
        require_or_skip("the packaged models are not installed", "run `make setup-local`")
    ingest(caller, index="handbook-local")
    name = register(caller, "rag/answer.yaml")
    question = "How often is the mirror of the main telescope cleaned?"
    run = caller.run(name, {"question": question, "index": "handbook-local"})
    outputs = completed(run)
    assert "mirror-cleaning.md" in outputs["sources"]
    assert outputs["answer"].strip()
    assert outputs["usage"]["output_tokens"] > 0
