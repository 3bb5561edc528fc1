"""How a run that another one called ended, as a fact for the step that called it.

The run of an item of a distributed map fails as the item would within the map: with the failure of its step,
whose path stands beside it. That of a `workflow` step says which run it was.
"""

from __future__ import annotations

from app.core import events as e
from app.engines.blocks import place_of_failure
from app.engines.budget import charged_so_far
from app.engines.facts import Fact
from app.engines.history import History


def end_of(history: History, path: str, now: float) -> Fact:
    """How a called run ended, as a fact for the step that called it."""
    run_id = history.state.run_id
    budgeted = history.submitted.get("budget") is not None
    charged = {"charged": charged_so_far(history).as_data()} if budgeted else {}
    if history.status == "completed":
        outputs = history.outputs if isinstance(history.outputs, dict) else {}
        if history.is_item:
            brought = {"result": outputs.get("result"), "run_id": run_id}
            return Fact(
                event=e.ChildEnded(path=path, failure=None, at=now), data={"outputs": brought, **charged}
            )
        data = {"outputs": {**outputs, "outputs": history.outputs, "run_id": run_id}, **charged}
        return Fact(event=e.ChildEnded(path=path, failure=None, at=now), data=data)
    failure = history.failure
    if failure is None:
        error_class = "timeout" if history.status == "timed_out" else "cancelled"
        failure = e.Failure(error_class=error_class, message=f"ended as {history.status}")
    if history.is_item:
        where = None if history.failed_path is None else place_of_failure(history, history.failed_path)
        within = {} if where is None else {"within": where}
        return Fact(
            event=e.ChildEnded(path=path, failure=failure, at=now), data={**within, **charged} or None
        )
    message = f"the called run {run_id!r} failed: {failure.message}"
    failed = e.Failure(error_class=failure.error_class, message=message)
    return Fact(event=e.ChildEnded(path=path, failure=failed, at=now), data=charged or None)
