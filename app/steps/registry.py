"""Every step kind by the `type` that documents use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.steps.action import ActionKind
from app.steps.approval import ApprovalKind
from app.steps.branch import BranchKind
from app.steps.control import ControlKind
from app.steps.embed import EmbedKind
from app.steps.http import HttpKind
from app.steps.kind import StepKind
from app.steps.llm import LlmKind
from app.steps.loop import LoopKind
from app.steps.map import MapKind
from app.steps.parallel import ParallelKind
from app.steps.rerank import RerankKind
from app.steps.transform import TransformKind
from app.steps.vector_delete import VectorDeleteKind
from app.steps.vector_search import VectorSearchKind
from app.steps.vector_upsert import VectorUpsertKind
from app.steps.wait import WaitKind
from app.steps.workflow import WorkflowKind

STEP_KINDS: Final[Mapping[str, StepKind]] = {
    "llm": LlmKind(),
    "embed": EmbedKind(),
    "rerank": RerankKind(),
    "vector_search": VectorSearchKind(),
    "vector_upsert": VectorUpsertKind(),
    "vector_delete": VectorDeleteKind(),
    "transform": TransformKind(),
    "http": HttpKind(),
    "action": ActionKind(),
}

CONTROL_KINDS: Final[Mapping[str, ControlKind]] = {
    "branch": BranchKind(),
    "parallel": ParallelKind(),
    "map": MapKind(),
    "loop": LoopKind(),
    "workflow": WorkflowKind(),
    "wait": WaitKind(),
    "approval": ApprovalKind(),
}
"""Those that the scheduler carries out itself; every document may use them."""
