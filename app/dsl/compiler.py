"""A loaded document to a workflow that can run, or to everything that is wrong with it.

Checking goes on after a problem as far as it makes sense, so that an author mends all of them at once.
The same document always compiles to the same workflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson
from pydantic import ValidationError

from app.core.plan import Node, Plan
from app.dsl.compiled import CompiledStep, CompiledWorkflow
from app.dsl.document import LATER_WORKFLOW_KEYS, DefaultsDocument, WorkflowDocument
from app.dsl.drafts import NOT_YET, Draft, read_steps
from app.dsl.findings import Findings
from app.dsl.graph import cycles, leaves
from app.dsl.inputs import Inputs, compile_inputs
from app.dsl.limits import MOST_STEPS, MOST_TEMPLATE_BYTES, template_bytes
from app.dsl.loader import LoadedDocument
from app.dsl.model_errors import report
from app.dsl.policies import PlanDefaults
from app.dsl.references import NamedSteps, named_steps, needed_steps
from app.dsl.step_compiler import StepCompiler
from app.ports.runs import Definition
from app.steps.kind import StepKind
from app.templating.compiler import Compiled, TemplateProblems, compile_value

UNVERSIONED = "1"
"""The version of a document that names none."""


def compile_workflow(
    document: LoadedDocument | Any, *, kinds: Mapping[str, StepKind], defaults: PlanDefaults | None = None
) -> CompiledWorkflow:
    """Compile a document. Raises `DefinitionInvalid` with every problem, each with its place.

    Lines and columns are known for a `LoadedDocument` that came from a text; plain JSON values do.
    """
    loaded = document if isinstance(document, LoadedDocument) else LoadedDocument(document)
    return _Compilation(loaded, kinds, defaults or PlanDefaults()).run()


class _Compilation:
    """One document on its way."""

    __slots__ = ("_findings", "_kinds", "_loaded", "_service")

    def __init__(self, loaded: LoadedDocument, kinds: Mapping[str, StepKind], service: PlanDefaults) -> None:
        self._loaded = loaded
        self._kinds = kinds
        self._service = service
        self._findings = Findings(loaded)

    def run(self) -> CompiledWorkflow:
        """Read everything, then raise or assemble."""
        raw = self._raw()
        document = self._document(raw)
        inputs = compile_inputs(_object(raw, "inputs"), self._findings, under="/inputs")
        raw_steps = raw.get("steps")
        drafts = read_steps(raw_steps if isinstance(raw_steps, list) else [], self._kinds, self._findings)
        unknown = [draft.id for draft in drafts.values() if draft.kind is None]
        known = named_steps({step: draft.names for step, draft in drafts.items()}, unknown, inputs)
        compiler = StepCompiler(known, document.defaults or DefaultsDocument(), self._service, self._findings)
        compiled = [step for draft in drafts.values() if (step := compiler.compile(draft)) is not None]
        self._report_cycles(compiler.dependencies, drafts)
        outputs = self._outputs(_object(raw, "outputs"), known)
        self._findings.raise_if_any()
        return self._assemble(document, raw, inputs, compiled, outputs)

    def _raw(self) -> dict[str, Any]:
        """The document as a mapping that JSON can carry, with a version that is text."""
        value = self._loaded.value
        if not isinstance(value, dict):
            self._findings.add("", "a workflow is a mapping", "begin with 'name: …' and 'steps:'")
            self._findings.raise_if_any()
        raw = dict(value)
        if isinstance(raw.get("version"), (int, float)) and not isinstance(raw["version"], bool):
            raw["version"] = self._loaded.written("/version") or str(raw["version"])
        self._check_size(raw)
        self._findings.raise_if_any()
        return raw

    def _check_size(self, raw: dict[str, Any]) -> None:
        try:
            size = template_bytes(orjson.dumps(raw))
        except TypeError as error:
            self._findings.add("", f"the document is no JSON value: {error}", "use plain JSON values")
            return
        steps = raw.get("steps")
        if isinstance(steps, list) and len(steps) > MOST_STEPS:
            self._findings.add("/steps", f"more than {MOST_STEPS} steps", "split the workflow")
        if size > MOST_TEMPLATE_BYTES:
            detail = f"more than {MOST_TEMPLATE_BYTES} bytes within the braces of templates"
            self._findings.add("", detail, "split the workflow, or move text out of the braces")

    def _document(self, raw: dict[str, Any]) -> WorkflowDocument:
        """The keys of the workflow itself; where they are wrong, a stand-in that is never used."""
        for key in LATER_WORKFLOW_KEYS & raw.keys():
            self._findings.add(f"/{key}", f"{key!r} is not supported by this version", NOT_YET)
        present = {key: value for key, value in raw.items() if key not in LATER_WORKFLOW_KEYS}
        try:
            return WorkflowDocument.model_validate(present)
        except ValidationError as error:
            report(error, self._findings, value=present, under="", model=WorkflowDocument)
            return WorkflowDocument.model_construct(name="", steps=[])

    def _outputs(self, outputs: dict[str, Any] | None, known: NamedSteps) -> Compiled | None:
        if outputs is None:
            return None
        try:
            compiled = compile_value(outputs)
        except TemplateProblems as problems:
            self._findings.extend(problems.problems, under="/outputs")
            return None
        needed_steps(compiled, known, self._findings, under="/outputs", step=None)
        return compiled

    def _report_cycles(
        self, dependencies: Mapping[str, tuple[str, ...]], drafts: Mapping[str, Draft]
    ) -> None:
        for circle in cycles(dependencies):
            path = " -> ".join(circle)
            self._findings.add(
                drafts[circle[0]].pointer,
                f"steps wait for each other: {path}",
                "each step waits for the next one; remove one of these dependencies or references",
            )

    def _assemble(
        self,
        document: WorkflowDocument,
        raw: dict[str, Any],
        inputs: Inputs,
        compiled: list[tuple[Node, CompiledStep]],
        outputs: Compiled | None,
    ) -> CompiledWorkflow:
        most = self._service.max_concurrency
        nodes = tuple(node for node, _ in compiled)
        return CompiledWorkflow(
            name=document.name,
            version=document.version or UNVERSIONED,
            description=document.description,
            labels=document.labels or {},
            plan=Plan(
                nodes=nodes,
                max_concurrency=min(document.max_concurrency or most, most),
                timeout=document.timeout_seconds or self._service.run_timeout,
            ),
            steps={step.id: step for _, step in compiled},
            outputs=outputs,
            leaves=leaves({node.id: node.depends_on for node in nodes}),
            inputs=inputs,
            document=raw,
            definition=_definition(raw),
        )


def _object(raw: dict[str, Any], key: str) -> dict[str, Any] | None:
    value = raw.get(key)
    return value if isinstance(value, dict) else None


def _definition(raw: dict[str, Any]) -> Definition:
    """Compact JSON in the author's order of keys: order matters to schemas and prompts made of them."""
    document = orjson.dumps(raw)
    return Definition(hash=sha256(document).hexdigest(), document=document)
