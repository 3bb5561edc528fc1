"""A loaded document to a workflow that can run, or to everything that is wrong with it.

Checking goes on after a problem as far as it makes sense, so that an author mends all of them at once.
The same document always compiles to the same workflow.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson
from pydantic import ValidationError

from app.core.plan import Plan
from app.dsl.blocks import BlockAssembler, BlockCompiler, BlockStep
from app.dsl.compiled import Budget, CompiledWorkflow, ConcurrencyRule, IndexUse
from app.dsl.distribution import distributed
from app.dsl.document import DefaultsDocument, WorkflowDocument
from app.dsl.drafts import Draft, StepReader, check_extent, raw_steps
from app.dsl.findings import Findings
from app.dsl.graph import leaves
from app.dsl.index_uses import index_uses, index_warnings
from app.dsl.inputs import Inputs, compile_inputs
from app.dsl.limits import MOST_TEMPLATE_BYTES, template_bytes
from app.dsl.loader import LoadedDocument
from app.dsl.model_errors import report
from app.dsl.names import NamedSteps, handler_names, named_steps
from app.dsl.near_misses import near_misses
from app.dsl.policies import PlanDefaults
from app.dsl.provenance import Provenance
from app.dsl.references import check_inputs_only, needed_steps
from app.ports.buffers import trimmed
from app.ports.runs import Definition
from app.steps.kind import StepKind
from app.templating.compiler import Compiled, TemplateProblems, compile_value

UNVERSIONED = "1"
"""The version of a document that names none."""
ON_FAILURE: Final = "on_failure"
FINALLY: Final = "finally"
BLOCKS: Final = ("steps", ON_FAILURE, FINALLY)
"""The keys of a workflow that hold steps."""


def compile_workflow(
    document: LoadedDocument | Any, *, kinds: Mapping[str, StepKind], defaults: PlanDefaults | None = None
) -> CompiledWorkflow:
    """Compile a document. Raises `DefinitionInvalid` with every problem, each with its place.

    Lines and columns are known for a `LoadedDocument` that came from a text; plain JSON values do.
    """
    loaded = document if isinstance(document, LoadedDocument) else LoadedDocument(document)
    return _Compilation(loaded, kinds, defaults or PlanDefaults()).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Everything of a document that templates can be in."""

    inputs: Inputs
    blocks: Mapping[str, tuple[BlockStep, ...]]
    outputs: Compiled | None
    concurrency: ConcurrencyRule | None
    index_uses: tuple[IndexUse, ...]


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
        drafts = self._drafts(raw)
        handlers: dict[str, Mapping[str, Draft]] = {
            block: drafts[block] for block in (ON_FAILURE, FINALLY) if block in raw
        }
        known = named_steps(drafts["steps"], inputs, handlers)
        compiler = BlockCompiler(self._findings)
        blocks = {"steps": compiler.compile(drafts["steps"], known)}
        for block, steps in handlers.items():
            blocks[block] = compiler.compile(steps, handler_names(known, block, steps), whole=True)
        parts = _Parts(
            inputs=inputs,
            blocks=blocks,
            outputs=self._outputs(_object(raw, "outputs"), known),
            concurrency=self._concurrency(document, known),
            index_uses=index_uses(Provenance(blocks.values()), self._findings),
        )
        self._findings.raise_if_any()
        return self._assemble(document, raw, parts)

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
        check_extent([step for block in BLOCKS for step in raw_steps(raw.get(block), block)], self._findings)
        if size > MOST_TEMPLATE_BYTES:
            detail = f"more than {MOST_TEMPLATE_BYTES} bytes within the braces of templates"
            self._findings.add("", detail, "split the workflow, or move text out of the braces")

    def _document(self, raw: dict[str, Any]) -> WorkflowDocument:
        """The keys of the workflow itself; where they are wrong, a stand-in that is never used."""
        try:
            return WorkflowDocument.model_validate(raw)
        except ValidationError as error:
            report(error, self._findings, value=raw, under="", model=WorkflowDocument)
            return WorkflowDocument.model_construct(name="", steps=[])

    def _drafts(self, raw: dict[str, Any]) -> dict[str, dict[str, Draft]]:
        """The steps of each block of the workflow."""
        reader = StepReader(self._kinds, self._findings)
        main = reader.read(raw_steps(raw.get("steps"), "steps"), around=ChainMap())
        around: ChainMap[str, None] = ChainMap(dict.fromkeys(main))
        drafts = {"steps": main}
        for block in (ON_FAILURE, FINALLY):
            listed = raw_steps(raw.get(block), block)
            drafts[block] = reader.read(listed, around=around, prefix=f"{block}.")
            if block in raw and block in main:
                detail = f"a block of the workflow is called {block!r} as well"
                self._findings.add(f"{main[block].pointer}/id", detail, "give the step another id")
        return drafts

    def _outputs(self, outputs: dict[str, Any] | None, known: NamedSteps) -> Compiled | None:
        if outputs is None:
            return None
        try:
            compiled = compile_value(outputs)
        except TemplateProblems as problems:
            self._findings.extend(problems.problems, under="/outputs")
            return None
        needed_steps(compiled, known, self._findings, under="/outputs", whole=True)
        return compiled

    def _concurrency(self, document: WorkflowDocument, known: NamedSteps) -> ConcurrencyRule | None:
        asked = document.concurrency
        if asked is None:
            return None
        key = None
        if asked.key is not None:
            under = "/concurrency/key"
            try:
                key = compile_value(asked.key)
            except TemplateProblems as problems:
                self._findings.extend(problems.problems, under=under)
            else:
                check_inputs_only(key, known, self._findings, under=under)
        return ConcurrencyRule(key=key, limit=asked.limit, on_limit=asked.on_limit)

    def _assemble(self, document: WorkflowDocument, raw: dict[str, Any], parts: _Parts) -> CompiledWorkflow:
        assembler, plan = self._plan(document, parts)
        workflow = CompiledWorkflow(
            name=document.name,
            version=document.version or UNVERSIONED,
            description=document.description,
            labels=document.labels or {},
            plan=plan,
            steps=assembler.steps,
            outputs=parts.outputs,
            leaves=leaves({node.id: node.depends_on for node in plan.main.nodes}),
            inputs=parts.inputs,
            concurrency=parts.concurrency,
            budget=_budget(document),
            index_uses=parts.index_uses,
            warnings=(
                *index_warnings(parts.index_uses),
                *near_misses(step for steps in parts.blocks.values() for step in steps),
            ),
            document=raw,
            definition=_definition(raw),
        )
        if not assembler.bodies:
            return workflow
        plain, undistributed = self._plan(document, parts, distributes=False)
        return distributed(workflow, assembler.bodies, undistributed=undistributed, plain=plain.bodies)

    def _plan(
        self, document: WorkflowDocument, parts: _Parts, *, distributes: bool = True
    ) -> tuple[BlockAssembler, Plan]:
        most = self._service.max_concurrency
        models = {use.key: use.made_by for use in parts.index_uses}
        defaults = document.defaults or DefaultsDocument()
        assembler = BlockAssembler(defaults, self._service, models, distributes=distributes)
        blocks = {name: assembler.block(steps) for name, steps in parts.blocks.items()}
        return assembler, Plan(
            main=blocks["steps"],
            max_concurrency=min(document.max_concurrency or most, most),
            timeout=document.timeout_seconds or self._service.run_timeout,
            on_failure=blocks.get(ON_FAILURE),
            finally_=blocks.get(FINALLY),
        )


def _budget(document: WorkflowDocument) -> Budget | None:
    asked = document.budget
    if asked is None:
        return None
    return Budget(max_cost_usd=asked.max_cost_usd, max_tokens=asked.max_tokens, on_exceeded=asked.on_exceeded)


def _object(raw: dict[str, Any], key: str) -> dict[str, Any] | None:
    value = raw.get(key)
    return value if isinstance(value, dict) else None


def _definition(raw: dict[str, Any]) -> Definition:
    """Compact JSON in the author's order of keys: order matters to schemas and prompts made of them."""
    document = trimmed(orjson.dumps(raw))
    return Definition(hash=sha256(document).hexdigest(), document=document)
