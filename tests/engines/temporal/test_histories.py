"""What earlier releases began in Temporal, this one goes on with: every recorded history replays."""

from __future__ import annotations

import pytest

from tests.conftest import require_or_skip
from tests.engines.temporal.record import FOLDER, LIVES

pytestmark = pytest.mark.temporal

try:
    from temporalio.client import WorkflowHistory
    from temporalio.worker import Replayer
    from temporalio.workflow import NondeterminismError

    from app.engines.temporal.workflow import RunWorkflow
except ModuleNotFoundError:
    require_or_skip("the extra 'temporal' is not installed", "pip install temporalio")

CONTENTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.json"))}


async def test_a_history_of_another_course_is_found_out() -> None:
    text = CONTENTS["0.1.0-waiting"].replace('"execute_run"', '"something_else"')
    with pytest.raises(NondeterminismError):
        await Replayer(workflows=[RunWorkflow]).replay_workflow(WorkflowHistory.from_json("r", text))


def test_every_life_of_a_run_is_recorded() -> None:
    names = " ".join(CONTENTS)
    assert [life for life in LIVES if life.replace("_", "-") not in names] == []


@pytest.mark.parametrize("name", CONTENTS)
async def test_a_recorded_history_replays(name: str) -> None:
    history = WorkflowHistory.from_json(name, CONTENTS[name])
    await Replayer(workflows=[RunWorkflow]).replay_workflow(history)
