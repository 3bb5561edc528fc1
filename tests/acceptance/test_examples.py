"""Every document under examples/ is registered and run over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.providers.local.models import LocalModels
from tests.acceptance.client import Caller
from tests.acceptance.documents import completed, statuses
from tests.acceptance.web import Web, serving
from tests.conftest import require_or_skip
from tests.service_process import ROOT
from tests.simulator.process import Simulator

EXAMPLES = ROOT / "examples"
WITH_THEIR_VENDOR = {"providers", "databases"}
"""Run by `tests/examples/test_vendor_examples.py`."""
OPENAI = {
    "embed_provider": "openai",
    "embed_model": "text-embedding-3-small",
    "index": "handbook-openai",
}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server with the JSON that the examples fetch."""
    (tmp_path / "orders.json").write_text(
        '{"orders": [{"id": 1, "status": "open", "total": 5}, {"id": 2, "status": "paid", "total": 7},'
        ' {"id": 3, "status": "open", "total": 9}]}'
    )
    (tmp_path / "tickets").write_text('[{"id": 1, "priority": "urgent"}, {"id": 2, "priority": "low"}]')
    (tmp_path / "news.json").write_text(
        '{"items": [{"title": "Comet seen", "age_hours": 2}, {"title": "Old news", "age_hours": 30}]}'
    )
    (tmp_path / "1").write_text(
        '{"rows": [{"region": "north", "amount": 1}, {"region": "south", "amount": 2}]}'
    )
    (tmp_path / "3").write_text('{"rows": [{"region": "north", "amount": 4}]}')
    with serving(tmp_path) as server:
        yield server


def register(caller: Caller, name: str, **instead: str) -> str:
    """Register an example; gives the name of its workflow. With other words it is another workflow."""
    text = (EXAMPLES / name).read_text()
    if instead:
        text = text.replace("\nname: ", "\nname: changed-", 1)
    for old, new in instead.items():
        assert old in text
        text = text.replace(old, new)
    response = caller.register(text)
    assert response.status_code in {200, 201}, response.text
    workflow: str = response.json()["name"]
    return workflow


def step_of(caller: Caller, run: dict[str, Any], path: str) -> dict[str, Any]:
    """A step with its outputs."""
    steps = caller.get(run["id"], include="outputs,attempts")["steps"]
    found: dict[str, Any] = next(step for step in steps if step["path"] == path)
    return found


def told(vendor: Simulator) -> dict[str, dict[str, Any]]:
    """The parameters of the actions that reached the operator's webhook, by action."""
    posted = [json.loads(hook["body"]) for hook in vendor.stats().hooks]
    return {body["action"]: body["parameters"] for body in posted}


def documents() -> list[dict[str, str]]:
    return [
        {"id": file.stem, "text": file.read_text().strip(), "source": file.name}
        for file in sorted((EXAMPLES / "knowledge").glob("*.md"))
    ]


def test_no_example_is_left_out() -> None:
    files = [file for file in EXAMPLES.rglob("*") if file.is_file() and file.parent.name != "fixtures"]
    found = {file.relative_to(EXAMPLES) for file in files if file.suffix != ".md"}
    here = {file.as_posix() for file in found if file.parts[0] not in WITH_THEIR_VENDOR}
    assert here == set(COVERED)


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


# --- control flow -------------------------------------------------------------------------------------


def ingest_map(caller: Caller) -> None:
    workflow = register(caller, "ingest_map.yaml")
    texts = {"long": "A sentence about stars. " * 60, "blank": "   ", "short": "The café opens at nine."}
    given = [{"id": name, "text": text} for name, text in texts.items()]
    outputs = completed(caller.run(workflow, {"documents": given}))
    assert outputs["pieces"] > 2
    assert [(error["index"], error["path"]) for error in outputs["failed"]] == [(1, "each[1].embed")]


def map_reduce(caller: Caller) -> None:
    name = register(caller, "map_reduce.yaml")
    run = caller.run(name, {"text": "".join(f"Sentence {number} is here. " for number in range(400))})
    outputs = completed(run)
    assert outputs["parts"] == sum(path.endswith(".summarise") for path in statuses(run)) > 3
    assert outputs["summary"].startswith("1. Sentence 0 is here.")
    assert "2. " in outputs["summary"]


def distributed_review(caller: Caller) -> None:
    name = register(caller, "distributed_review.yaml")
    run = caller.run(name, {"contracts": ["Paid monthly. Ends in May.", "", "Ends never."]})
    assert completed(run) == {
        "reviews": [
            {"contract": 0, "remarks": ["Paid monthly", "Ends in May."]},
            None,
            {"contract": 2, "remarks": ["Ends never."]},
        ],
        "unchecked": [1],
    }
    item = caller.get(step_of(caller, run, "reviews[0].run")["outputs"]["run_id"])
    assert (item["workflow"], item["parent_run_id"]) == (name, run["id"])
    assert statuses(item)["checked[1].check"] == "completed"


def self_correcting(caller: Caller) -> None:
    name = register(caller, "self_correcting.yaml")
    right = '{"title": "Short", "tags": ["a"]}'
    once = completed(caller.run(name, {"text": right}))
    assert once == {"answer": {"title": "Short", "tags": ["a"]}, "right": True, "tries": 1}
    wrong = caller.run(name, {"text": '{"title": "Short", "tags": []}'})
    assert completed(wrong)["right"] is False
    assert wrong["outputs"]["tries"] == 3
    asked = [step_of(caller, wrong, f"tries[{number}].answer") for number in range(2)]
    words = [step["outputs"]["usage"]["input_tokens"] for step in asked]
    assert words[1] > words[0], "the second try is told what was wrong with the first"


def vote(caller: Caller) -> None:
    name = register(caller, "vote.yaml")
    run = caller.run(name, {"text": "Positive.", "models": ["any", "fail:authentication", "any"]})
    assert completed(run) == {
        "sentiment": "Positive.",
        "agreement": 1.0,
        "ballots": {"first": "Positive.", "second": None, "third": "Positive."},
    }
    assert set(statuses(run)) >= {"ballots", "ballots.first", "ballots.second", "ballots.third", "count"}


def coordinator(caller: Caller) -> None:
    name = register(caller, "coordinator.yaml")
    tasks = [{"role": "lawyer", "task": "Check it."}, {"role": "poet", "task": "Praise it."}]
    good = caller.run(name, {"goal": json.dumps({"tasks": tasks, "score": 9})})
    assert completed(good) == {"work": ["Check it.", "Praise it."], "score": 9, "rounds": 1}
    assert statuses(good)["rounds[0].specialists[1].work"] == "completed"
    poor = completed(caller.run(name, {"goal": json.dumps({"tasks": tasks, "score": 2})}))
    assert (poor["score"], poor["rounds"]) == (2, 3)


def fallback_budget(caller: Caller) -> None:
    name = register(caller, "fallback_budget.yaml")
    first = completed(caller.run(name, {"question": "Why?"}))
    assert first == {"answer": "Why?", "model": "any", "tried": []}
    failing = {"model": "fail:rate_limit", "second_model": "fail:context_length"}
    last = caller.run(name, {"question": "Why?", **failing})
    outputs = completed(last)
    assert (outputs["answer"], outputs["model"]) == ("Why?", "the last one")
    tried = [(one["model"], one["error_class"]) for one in outputs["tried"]]
    assert tried == [("fail:rate_limit", "rate_limit"), ("fail:context_length", "context_length")]
    step = step_of(caller, last, "answer")
    assert (len(step["attempts"]), step["usage"]["model"]) == (1, "the last one")
    nobody = caller.run(name, {"question": "Why?", **failing, "last_model": "fail:permission"})
    assert nobody["error"]["error_class"] == "rate_limit"
    assert len(step_of(caller, nobody, "answer")["attempts"]) == 2
    assert "fail:permission" in nobody["error"]["message"]
    refused = caller.run(name, {"question": "why " * 300})
    assert (refused["error"]["path"], refused["error"]["error_class"]) == ("answer", "budget_exceeded")


def rerank(caller: Caller) -> None:
    echo = {"embed_provider": "echo", "embed_model": "any", "index": "handbook-echo"}
    ingest(caller, **echo)
    name = register(caller, "rag/rerank.yaml")
    echo |= {"rerank_provider": "echo", "rerank_model": "any", "provider": "echo", "model": "any"}
    question = "How often is the mirror of the main telescope cleaned?"
    run = caller.run(name, {"question": question, **echo})
    outputs = completed(run)
    assert outputs["sources"][0] == "mirror-cleaning.md"
    assert outputs["scores"] == sorted(outputs["scores"], reverse=True)
    assert len(outputs["sources"]) == 2
    assert question in outputs["answer"]
    nothing = caller.run(name, {"question": question, "min_score": 1, **echo})
    assert completed(nothing)["answer"] == "Nothing is known about that."
    assert statuses(nothing)["answer"] == "skipped"


def hybrid(caller: Caller) -> None:
    echo = {"embed_provider": "echo", "embed_model": "any", "index": "handbook-words"}
    ingest(caller, **echo)
    parts = [
        {"id": "seal", "text": "The door has the seal QX-200.", "source": "seal.md"},
        {"id": "hinge", "text": "The door has the hinge QX-300.", "source": "hinge.md"},
    ]
    completed(caller.run(register(caller, "rag/ingest.yaml"), {"documents": parts, **echo}))
    name = register(caller, "rag/hybrid.yaml")
    asked = {"question": "Which part is QX-200?", "provider": "echo", "model": "any", **echo}
    both = completed(caller.run(name, asked))
    assert both["sources"][0] == "seal.md"
    assert both["scores"] == sorted(both["scores"], reverse=True)
    assert "QX-200" in both["answer"]
    words = completed(caller.run(name, {**asked, "question": "hinge", "alpha": 0}))
    assert (words["sources"], words["scores"]) == (["hinge.md"], [1.0])
    nothing = caller.run(name, {**asked, "question": "zeppelin", "alpha": 0})
    assert completed(nothing)["answer"] == "Nothing is known about that."


def upkeep(caller: Caller) -> None:
    name = register(caller, "rag/upkeep.yaml")
    replace = {"change": "replace", "document": "manual"}
    first = completed(caller.run(name, {"customer": "acme", "texts": ["Press it.", "Wait."], **replace}))
    assert (first["stored"], first["removed"], len(first["found"])) == (2, 0, 1)
    completed(caller.run(name, {"customer": "other", "texts": ["Pull it."], **replace}))
    again = completed(caller.run(name, {"customer": "acme", "texts": ["Push it."], **replace}))
    assert (again["stored"], again["removed"]) == (1, 2)
    forget = {"customer": "acme", "change": "forget", "ids": [*again["found"], "manual-unknown"]}
    assert completed(caller.run(name, forget))["removed"] == 1
    assert completed(caller.run(name, {"customer": "other", "change": "clear"}))["removed"] == 1


COVERED: dict[str, Callable[[Caller], None] | None] = {
    "moderation.yaml": moderation,
    "summarise.yaml": summarise,
    "rag/ingest.yaml": ingest_openai,
    "rag/answer.yaml": answer_openai,
    "dialect/greeting.json": greeting,
    "dialect/notices.yaml": notices,
    "dialect/optional_translation.yaml": optional_translation,
    "dialect/semantic_search.yaml": semantic_search,
    "ingest_map.yaml": ingest_map,
    "map_reduce.yaml": map_reduce,
    "distributed_review.yaml": distributed_review,
    "self_correcting.yaml": self_correcting,
    "vote.yaml": vote,
    "coordinator.yaml": coordinator,
    "fallback_budget.yaml": fallback_budget,
    "rag/rerank.yaml": rerank,
    "rag/hybrid.yaml": hybrid,
    "rag/upkeep.yaml": upkeep,
    "etl_http.yaml": None,
    "etl_pages.yaml": None,
    "export_csv.yaml": None,
    "poll_job.yaml": None,
    "daily_digest.yaml": None,
    "moderation_router.yaml": None,
    "approval.yaml": None,
    "refund_desk.yaml": None,
    "cached_classification.yaml": None,
    "reuse/translate.yaml": None,
    "reuse/newsletter.yaml": None,
    "dialect/reshape.yaml": None,
    "dialect/guarded_answer.yaml": None,
}
"""What each example is expected to do; None: it has a test of its own below."""


@pytest.mark.parametrize("name", [name for name, check in COVERED.items() if check])
def test_an_example_does_what_it_says(name: str, caller: Caller) -> None:
    check = COVERED[name]
    assert check is not None
    check(caller)


def test_an_answer_outside_its_schema_is_repaired_within_its_try(caller: Caller, vendor: Simulator) -> None:
    vendor.control(texts={"writer": ['{"title": "Short"}', '{"title": "Short", "tags": ["a"]}']})
    name = register(caller, "self_correcting.yaml")
    run = caller.run(name, {"text": "A text.", "provider": "sim", "model": "writer"})
    assert completed(run)["tries"] == 1
    step = step_of(caller, run, "tries[0].answer")
    assert (step["outputs"]["repairs"], len(step["usage"]["calls"]), len(step["attempts"])) == (1, 2, 1)
    keys = vendor.stats().answered_by_key
    assert sorted(key.partition(".answer")[2] for key in keys) == ["", ":repair1"]


def test_the_etl_example_reports_the_open_orders(caller: Caller, web: Web, vendor: Simulator) -> None:
    name = register(caller, "etl_http.yaml")
    run = caller.run(name, {"url": f"{web.url}/orders.json"})
    orders = [{"order": 3, "amount": 9}, {"order": 1, "amount": 5}]
    assert completed(run) == {"count": 2, "orders": orders}
    (hook,) = vendor.stats().hooks
    assert '"action":"open_orders"' in hook["body"]


def test_the_reshape_example_merges_what_it_fetched(caller: Caller, web: Web) -> None:
    name = register(caller, "dialect/reshape.yaml", **{"https://api.example.com": web.url})
    run = caller.run(name, {"team": "support"})
    completed(run)
    urgent = step_of(caller, run, "urgent")
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


# --- control flow, with somebody outside --------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "taken", "told_of"),
    [
        ("Fine", "fine", {"publish_message"}),
        ("spam", "spam", {"hide_message", "warn_author"}),
        ("unsure", "default", {"queue_review"}),
    ],
)
def test_the_router_takes_the_way_that_the_verdict_names(
    verdict: str, taken: str, told_of: set[str], caller: Caller, vendor: Simulator
) -> None:
    name = register(caller, "moderation_router.yaml")
    run = caller.run(name, {"message": json.dumps({"verdict": verdict})})
    assert completed(run) == {"verdict": verdict, "taken": taken}
    assert set(told(vendor)) == told_of
    assert len(statuses(run)) == 2 + len(told_of), "steps of the other cases never come to be"


def asked(caller: Caller, run_id: str) -> dict[str, Any]:
    """The approval that a run waits for, once it does."""
    for event in caller.events(run_id, types="step.started"):
        if "approval_id" in event["data"]:
            answer = caller.http.get(f"/v1/approvals/{event['data']['approval_id']}").raise_for_status()
            approval: dict[str, Any] = answer.json()
            return approval
    raise AssertionError("the run asked nobody")


def test_a_letter_goes_out_as_it_was_approved(caller: Caller, vendor: Simulator) -> None:
    name = register(caller, "approval.yaml")
    run_id = caller.submit(name, {"to": "ada@example.com", "about": "See you on Monday."}).json()["id"]
    approval = asked(caller, run_id)
    assert "See you on Monday." in approval["message"]
    assert told(vendor) == {}
    where = f"/v1/approvals/{approval['id']}"
    unfit = caller.http.post(where, json={"action": "approve", "data": {"text": 5}})
    assert (unfit.status_code, unfit.json()["errors"][0]["pointer"]) == (422, "/data/text")
    caller.http.post(where, json={"action": "approve", "data": {"text": "Tuesday!"}}).raise_for_status()
    run = caller.until_ended(run_id)
    assert completed(run) == {"decision": "approve", "by": "local"}
    sent = {"to": "ada@example.com", "text": "Tuesday!", "approved_by": "local"}
    assert told(vendor) == {"send_letter": sent}


@pytest.mark.parametrize("silent", [False, True])
def test_a_letter_that_nobody_approves_stays_here(silent: bool, caller: Caller, vendor: Simulator) -> None:
    instead = {"timeout_seconds: 86400": "timeout_seconds: 0.2"} if silent else {}
    name = register(caller, "approval.yaml", **instead)
    run_id = caller.submit(name, {"to": "ada@example.com", "about": "Hello."}).json()["id"]
    if not silent:
        where = f"/v1/approvals/{asked(caller, run_id)['id']}"
        answer = {"action": "reject", "data": {"reason": "too early"}}
        caller.http.post(where, json=answer).raise_for_status()
    run = caller.until_ended(run_id)
    assert completed(run) == {"decision": "reject", "by": None if silent else "local"}
    assert statuses(run)["answer.note"] == "completed"
    assert "send_letter" not in told(vendor)


def test_refunds_are_decided_by_their_amount(caller: Caller, vendor: Simulator) -> None:
    soon = {"timeout_seconds: 3600": "timeout_seconds: 0.2", "timeout_seconds: 86400": "timeout_seconds: 0.2"}
    name = register(caller, "refund_desk.yaml", **soon)
    assert completed(caller.run(name, {"message": "Hello!"})) == {"asked_for": "none", "paid": False}
    assert told(vendor) == {"send_reply": {"text": "Hello!"}}
    small = caller.run(name, {"message": "It broke.", "call": {"order": "A1", "amount": 12}})
    assert completed(small) == {"asked_for": "small", "paid": True}
    assert told(vendor)["pay_refund"] == {"order": "A1", "amount": 12}
    large = caller.run(name, {"message": "It broke.", "call": {"order": "B2", "amount": 500}})
    assert (large["status"], large["error"]["error_class"]) == ("failed", "approval_timeout")
    assert "nobody answered" in told(vendor)["refund_undecided"]["reason"]


def test_a_refund_run_that_would_use_too_much_pauses(caller: Caller) -> None:
    name = register(caller, "refund_desk.yaml")
    run_id = caller.submit(name, {"message": "\N{SNOWMAN}" * 8000}).json()["id"]
    paused = next(event for event in caller.events(run_id) if event["type"] == "run.paused")
    assert paused["data"] == {"reason": "budget"}
    assert caller.get(run_id)["status"] == "paused"
    caller.http.post(f"/v1/runs/{run_id}/cancel").raise_for_status()
    assert caller.until_ended(run_id)["status"] == "cancelled"


def test_a_schedule_runs_the_digest(caller: Caller, vendor: Simulator, web: Web) -> None:
    name = register(caller, "daily_digest.yaml")
    schedule = {
        "name": "morning digest",
        "workflow": name,
        "version": "1.0",
        "inputs": {"url": f"{web.url}/news.json", "audience": "staff"},
        "cron": "0 7 * * *",
        "time_zone": "Europe/Berlin",
    }
    created = caller.http.post("/v1/schedules", json=schedule)
    assert created.status_code == 201, created.text
    where = created.json()["links"]["self"]
    fired = caller.http.post(f"{where}/trigger").raise_for_status().json()
    run = caller.until_ended(fired["id"])
    assert completed(run) == {"items": 1, "digest": "- Comet seen\n"}
    assert run["labels"]["schedule"] == "morning digest"
    assert told(vendor) == {"send_digest": {"audience": "staff", "text": "- Comet seen\n"}}
    assert statuses(run)["finally.trace"] == "completed"
    assert "on_failure.alarm" not in statuses(run)


def test_a_digest_that_cannot_be_made_is_told_to_somebody(
    caller: Caller, vendor: Simulator, web: Web
) -> None:
    name = register(caller, "daily_digest.yaml")
    run = caller.run(name, {"url": f"{web.url}/nowhere.json"})
    assert (run["status"], run["error"]["path"]) == ("failed", "fetch")
    assert told(vendor)["digest_failed"]["step"] == "fetch"
    assert statuses(run)["finally.trace"] == "completed"


def test_a_page_that_is_missing_leaves_a_gap_in_the_totals(
    caller: Caller, vendor: Simulator, web: Web
) -> None:
    name = register(caller, "etl_pages.yaml")
    run = caller.run(name, {"base_url": web.url, "pages": [1, 2, 3]})
    totals = [{"key": "north", "value": 5}, {"key": "south", "value": 2}]
    assert completed(run) == {"totals": totals, "missing": [1]}
    assert told(vendor) == {"totals_by_region": {"totals": totals}}


def test_the_export_gives_its_lock_back(caller: Caller, vendor: Simulator, web: Web) -> None:
    name = register(caller, "export_csv.yaml")
    rows = [{"region": "north", "amount": 1.255}, {"region": "south", "amount": 2}]
    run = caller.run(name, {"url": web.url, "rows": rows})
    assert completed(run)["status"] == 201
    lock, report, unlock = web.sent
    assert (lock["method"], lock["path"]) == ("POST", f"/lock?report=sales&holder={run['id']}")
    assert (report["method"], report["headers"]["content-type"]) == ("PUT", "text/csv")
    assert report["body"].splitlines()[0] == "region,amount"
    assert len(report["body"].splitlines()) == 3
    assert (unlock["method"], unlock["path"]) == ("DELETE", f"/lock?holder={run['id']}")
    assert told(vendor) == {"report_delivered": {"report": "sales", "rows": 2}}


def test_a_job_is_started_once_and_watched_until_it_is_done(caller: Caller, web: Web) -> None:
    web.states = ["running", "running", "done"]
    name = register(caller, "poll_job.yaml")
    run = caller.run(name, {"url": f"{web.url}/job", "every_seconds": 0.05})
    assert completed(run) == {"job": {"job": 17}, "looks": 3}
    (started,) = web.sent
    assert json.loads(started["body"]) == {"kind": "export"}
    assert started["headers"]["idempotency-key"]


def test_what_was_classified_once_is_not_asked_again(caller: Caller, vendor: Simulator) -> None:
    name = register(caller, "cached_classification.yaml")
    vendor.control(texts={"classifier": "refund"})
    sim = {"provider": "sim", "model": "classifier"}
    once = caller.run(name, {"tickets": ["Refund please", "Where is it?"], **sim})
    assert completed(once)["classes"] == ["refund", "refund"]
    assert once["outputs"]["sizes"] == [{"value": "refund", "count": 2}]
    assert vendor.stats().calls == 2
    again = caller.run(name, {"tickets": ["WHERE is it? ", "refund please"], **sim})
    assert completed(again)["classes"] == ["refund", "refund"]
    assert vendor.stats().calls == 2
    assert step_of(caller, again, "each[0].classify")["source"]["cache"] is True
    changed = caller.run(name, {"tickets": ["Where is it?"], **sim, "model": "another"})
    assert completed(changed)["classes"] == ["The simulated answer."]


def test_a_newsletter_is_made_of_runs_of_another_workflow(caller: Caller) -> None:
    missing = register(caller, "reuse/newsletter.yaml")
    failed = caller.run(missing, {"text": "Hello.", "languages": ["French"]})
    assert failed["error"]["error_class"] == "not_found"
    translate = register(caller, "reuse/translate.yaml")
    run = caller.run(missing, {"text": "Hello.", "languages": ["French", "Dutch"]})
    letters = [{"language": language, "text": "Hello."} for language in ("French", "Dutch")]
    assert completed(run)["letters"] == letters
    archive = caller.until_ended(run["outputs"]["archive"])
    assert (archive["workflow"], archive["parent_run_id"]) == (translate, run["id"])
    assert completed(archive)["language"] == "Latin"
