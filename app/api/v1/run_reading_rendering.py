"""Explanations, graphs and diffs to JSON bytes; `app.api.v1.schemas.run_reading` documents the shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from app.api.v1.rendering import run_path
from app.services.diffs import DefinitionDiff, RunDiff, RunSide, StepDiff, StepSide
from app.services.explanations import Explanation
from app.services.graph_views import Graph, GraphNode
from app.services.json_diffs import Difference
from app.services.reasons import See
from app.services.timestamps import rfc3339, rfc3339_or_none

_OPTIONS: Final = orjson.OPT_NON_STR_KEYS


def render_explanation(why: Explanation) -> bytes:
    """`StepExplanation`."""
    run = run_path(why.run_id)
    see = {"run": run, "graph": f"{run}/graph", "events": f"{run}/events"}
    body = {
        "run_id": why.run_id,
        "path": why.path,
        "type": why.type,
        "status": why.status,
        "reason": why.reason,
        "summary": why.summary,
        "details": why.details,
        "caused_by": [
            {"path": one.path, "status": one.status, "reason": one.reason, "summary": one.summary}
            for one in why.caused_by
        ],
        "more_causes": why.more_causes,
        "see": see | {relation: _target(to) for relation, to in why.see.items()},
    }
    return orjson.dumps(body, option=_OPTIONS)


def _target(see: See) -> str:
    return run_path(see.id) if see.kind == "run" else f"/v1/approvals/{see.id}"


# --- graphs -------------------------------------------------------------------------------------------


def render_graph(head: Mapping[str, Any], graph: Graph) -> bytes:
    """`RunGraph` or `WorkflowGraph`; `head` has what the graph is of."""
    body = {
        **head,
        "nodes": [_node(node) for node in graph.nodes],
        "edges": [{"source": edge.source, "target": edge.target, "kind": edge.kind} for edge in graph.edges],
    }
    return orjson.dumps(body)


def _node(node: GraphNode) -> dict[str, Any]:
    parts = node.parts
    return {
        "id": node.id,
        "path": node.path,
        "step": node.step,
        "type": node.type,
        "name": node.name,
        "parent": node.parent,
        "stage": node.stage,
        "case": node.case,
        "index": node.index,
        "conditional": node.conditional,
        "status": node.status,
        "attempt": node.attempt,
        "started_at": rfc3339_or_none(node.started_at),
        "finished_at": rfc3339_or_none(node.finished_at),
        "retry_at": rfc3339_or_none(node.retry_at),
        "skip_reason": node.skip_reason,
        "recovered": node.recovered,
        "taken": node.taken,
        "parts": None
        if parts is None
        else {"total": parts.total, "by_status": parts.by_status, "omitted": parts.omitted},
    }


# --- diffs --------------------------------------------------------------------------------------------


def render_diff(diff: RunDiff) -> bytes:
    """`RunDiff`."""
    body = {
        "same": diff.same,
        "a": _side(diff.a),
        "b": _side(diff.b),
        "definition": _definition(diff.definition),
        "inputs": _difference(diff.inputs),
        "outputs": _difference(diff.outputs),
        "steps": [_step(step) for step in diff.steps],
        "steps_same": diff.steps_same,
        "steps_omitted": diff.steps_omitted,
    }
    return orjson.dumps(body, option=_OPTIONS)


def _side(side: RunSide) -> dict[str, Any]:
    row = side.row
    return {
        "id": row.id,
        "workflow": row.workflow,
        "version": row.version,
        "status": side.status,
        "error": side.error,
        "created_at": rfc3339(row.created_at),
        "seconds": side.seconds,
        "input_tokens": side.input_tokens,
        "output_tokens": side.output_tokens,
        "definition_hash": side.definition_hash,
        "links": {"self": run_path(row.id), "graph": f"{run_path(row.id)}/graph"},
    }


def _definition(definition: DefinitionDiff) -> dict[str, Any]:
    return {
        "same": definition.same,
        "workflow": _difference(definition.workflow),
        "steps": [
            {"step": one.step, "change": one.change, "keys": _difference(one.keys)}
            for one in definition.steps
        ],
        "steps_omitted": definition.steps_omitted,
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "same": difference.same,
        "changes": [
            {
                "pointer": one.pointer,
                "change": one.change,
                "a": one.a,
                "b": one.b,
                "diff": one.diff,
                "cut": one.cut,
            }
            for one in difference.changes
        ],
        "complete": difference.complete,
    }


def _step(step: StepDiff) -> dict[str, Any]:
    return {
        "path": step.path,
        "a": _step_side(step.a),
        "b": _step_side(step.b),
        "rendered": step.rendered,
        "outputs": _difference(step.outputs),
    }


def _step_side(side: StepSide | None) -> dict[str, Any] | None:
    if side is None:
        return None
    return {
        "status": side.status,
        "attempt": side.attempt,
        "seconds": side.seconds,
        "input_tokens": side.input_tokens,
        "output_tokens": side.output_tokens,
        "reused": side.reused,
    }
