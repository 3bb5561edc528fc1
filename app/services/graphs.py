"""A workflow as a graph to be drawn: of its definition alone, or of a run with the state of every step.

Nodes are a flat list; `parent` puts them into the groups that control steps are, and items and iterations
within those. Everything of the definition is there, also what was not opened. Of a long map or loop some
parts are drawn and all are counted, so a graph is bounded whatever the size of its run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from app.core.plan import Block, Branch, Loop, Map, Node, Parallel, blocks_of
from app.core.state import ENDED, ControlState, Stage, StepState, StepStatus
from app.dsl.compiled import CompiledWorkflow
from app.engines.history import STEP_STATUS_NAMES, History, StepHistory
from app.services.block_progress import counts_of, part_status, was_entered
from app.services.graph_views import Graph, GraphEdge, GraphNode, GraphParts

MOST_NODES: Final = 6_000
"""More than any definition has steps; past it no further items and iterations are drawn."""
PARTS_SHOWN: Final = 20
"""Items and iterations of one step that are drawn unless told otherwise."""


def workflow_graph(workflow: CompiledWorkflow) -> Graph:
    """The definition alone."""
    return _Drawing(workflow, None, PARTS_SHOWN).drawn()


def run_graph(workflow: CompiledWorkflow, history: History, *, parts: int = PARTS_SHOWN) -> Graph:
    """The run as it is. `parts` bounds the items and iterations that are drawn of each step."""
    return _Drawing(workflow, history, parts).drawn()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Where a block is drawn."""

    stage: Stage
    parent: str | None = None
    id_prefix: str = ""
    path_prefix: str | None = ""
    """None: how the paths begin is open."""
    case: str | None = None
    absent: str | None = None
    """The status of steps that are not there; None without a run."""


class _Drawing:
    """One graph on its way."""

    def __init__(self, workflow: CompiledWorkflow, history: History | None, parts: int) -> None:
        self._workflow = workflow
        self._history = history
        self._parts = parts
        self._nodes: list[GraphNode] = []
        self._edges: list[GraphEdge] = []

    def drawn(self) -> Graph:
        # In a run an item of a distributed map is one step, whose own graph is that of its run.
        plan = self._workflow.written_plan if self._history is None else self._workflow.plan
        self._block(plan.main, _Group(stage="main", absent=self._absent("main")))
        stages: tuple[tuple[Stage, Block | None], ...] = (
            ("on_failure", plan.on_failure),
            ("finally", plan.finally_),
        )
        for stage, block in stages:
            if block is not None:
                prefix = f"{stage}."
                absent = self._absent(stage)
                self._block(block, _Group(stage=stage, id_prefix=prefix, path_prefix=prefix, absent=absent))
        return Graph(nodes=self._nodes, edges=self._edges)

    def _absent(self, stage: Stage) -> str | None:
        """The status of the steps of a stage that are not there."""
        if self._history is None:
            return None
        state = self._history.state
        over = state.terminal or (stage == "on_failure" and state.stage == "finally")
        return "skipped" if over else "pending"

    def _block(self, block: Block, group: _Group) -> None:
        for node in block.nodes:
            self._node(node, group)
        givers = {
            alias: node.id for node in block.nodes for alias in self._workflow.steps[node.key].names.aliases
        }
        for node in block.nodes:
            read = self._read_by_condition(node, givers)
            for other in node.depends_on:
                self._edges.append(
                    GraphEdge(
                        source=group.id_prefix + other,
                        target=group.id_prefix + node.id,
                        kind="condition" if other in read else "dependency",
                    )
                )

    def _read_by_condition(self, node: Node, givers: Mapping[str, str]) -> set[str]:
        """Ids of the steps of its block that a step's condition reads."""
        condition = self._workflow.steps[node.key].condition
        if condition is None:
            return set()
        read = [one for one in condition.references if one.parts and one.root in ("steps", "outputs")]
        names = {one.parts[0] for one in read}
        return names | {givers[name] for name in names if name in givers}

    def _node(self, node: Node, group: _Group) -> None:
        compiled = self._workflow.steps[node.key]
        path = None if group.path_prefix is None else group.path_prefix + node.id
        drawn = GraphNode(
            id=group.id_prefix + node.id,
            path=path,
            step=node.key,
            type=compiled.type,
            name=compiled.label,
            parent=group.parent,
            stage=group.stage,
            case=group.case,
            conditional=node.conditional,
            status=group.absent,
        )
        step = self._instance(node, path)
        if step is not None and self._history is not None:
            drawn = _with_state(drawn, step, self._history.steps.get(step.path) or StepHistory())
            if isinstance(node.control, (Map, Loop)) and step.control is not None:
                drawn = self._with_parts(drawn, step, step.control)
        self._nodes.append(drawn)
        self._inner(node, drawn, step)

    def _instance(self, node: Node, path: str | None) -> StepState | None:
        """The step in the run; cases that were not taken may have steps of the same paths."""
        if self._history is None or path is None:
            return None
        step = self._history.state.steps.get(path)
        return step if step is not None and step.node is node else None

    # --- within control steps -------------------------------------------------------------------------

    def _inner(self, node: Node, drawn: GraphNode, step: StepState | None) -> None:
        absent = drawn.status if step is None else _absent_within(step)
        path = None if drawn.path is None else f"{drawn.path}."
        group = _Group(
            stage=drawn.stage, parent=drawn.id, id_prefix=f"{drawn.id}.", path_prefix=path, absent=absent
        )
        match node.control:
            case Branch() as branch:
                self._cases(branch, group, step)
            case Map() | Loop():
                self._repeated(node, group, drawn, step)
            case Parallel(body=body):
                self._block(body, group)
            case _:
                pass

    def _cases(self, branch: Branch, group: _Group, step: StepState | None) -> None:
        """Every case; the ids of what did not run say to which case it belongs."""
        chosen = step is not None and self._history is not None and was_entered(self._history, step)
        taken = step.control.case if step is not None and step.control is not None else None
        blocks = [*branch.cases.items(), *([] if branch.default is None else [(None, branch.default)])]
        for case, block in blocks:
            label = "default" if case is None else case
            inside = replace(group, case=label)
            if not chosen or case != taken:
                absent = "skipped" if chosen and group.absent == "pending" else group.absent
                inside = replace(inside, id_prefix=f"{group.parent}[{label}].", absent=absent)
            self._block(block, inside)

    def _repeated(self, node: Node, group: _Group, drawn: GraphNode, step: StepState | None) -> None:
        """The parts that are drawn; the steps once, as the definition has them, where none was begun."""
        body = blocks_of(node.control)[0]
        shown = [] if step is None or self._history is None else self._shown(step)
        if not shown:
            self._block(body, replace(group, id_prefix=f"{group.parent}[].", path_prefix=None))
            return
        for index in shown:
            part = self._part(drawn, index, step)
            self._nodes.append(part)
            prefix = f"{part.id}."
            self._block(body, replace(group, parent=part.id, id_prefix=prefix, path_prefix=prefix))

    def _part(self, drawn: GraphNode, index: int, step: StepState | None) -> GraphNode:
        path = f"{drawn.path}[{index}]"
        status = None if step is None or self._history is None else part_status(self._history, step, index)
        return GraphNode(
            id=path,
            path=path,
            step=drawn.step,
            type="item" if drawn.type == "map" else "iteration",
            name=None,
            parent=drawn.id,
            stage=drawn.stage,
            index=index,
            status=status,
        )

    def _shown(self, step: StepState) -> list[int]:
        """The parts that are drawn: the first that were begun, and then the first that failed."""
        control = step.control
        room = MOST_NODES - len(self._nodes)
        if control is None or room <= 0:
            return []
        begun = control.begun if isinstance(step.node.control, Map) else control.count
        first = list(range(min(begun, self._parts)))
        failed = [index for index in sorted(control.failed) if index >= len(first)]
        size = len(blocks_of(step.node.control)[0].nodes) + 1
        return [*first, *failed[: self._parts]][: max(1, room // size)]

    def _with_parts(self, drawn: GraphNode, step: StepState, control: ControlState) -> GraphNode:
        if self._history is None:
            return drawn
        parts = GraphParts(
            total=control.count,
            by_status=counts_of(self._history, step),
            omitted=control.count - len(self._shown(step)),
        )
        return replace(drawn, parts=parts)


def _absent_within(step: StepState) -> str:
    """The status of steps within an instance that are not there."""
    if step.status not in ENDED:
        return "pending"
    return "cancelled" if step.status is StepStatus.CANCELLED else "skipped"


def _with_state(drawn: GraphNode, step: StepState, record: StepHistory) -> GraphNode:
    control, taken = step.control, None
    if isinstance(step.node.control, Branch) and control is not None and record.started_at is not None:
        default = "default" if step.node.control.default is not None else None
        taken = default if control.case is None else control.case
    return replace(
        drawn,
        status=STEP_STATUS_NAMES[step.status],
        attempt=step.attempt,
        started_at=record.started_at,
        finished_at=record.ended_at,
        retry_at=step.retry_at,
        skip_reason=step.skip_reason,
        recovered=step.recovered,
        taken=taken,
    )
