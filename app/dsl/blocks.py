"""Blocks of steps to blocks of the plan: what is within what, and who waits for whom.

A step that reads one of a block around its own makes the control step around it wait for that one: the
dependency stands where both ends live. So every block has its own acyclic graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from app.core.plan import Block, Control, Map, Node, RetryPolicy
from app.dsl.compiled import CompiledStep
from app.dsl.document import DefaultsDocument
from app.dsl.drafts import Draft
from app.dsl.findings import Findings
from app.dsl.graph import cycles
from app.dsl.names import NamedSteps, body_names, with_aliases
from app.dsl.naming import OutputNames
from app.dsl.policies import PlanDefaults, StepPolicies, policies_of
from app.dsl.references import Need
from app.dsl.step_compiler import StepCompiler, StepParts
from app.steps.control import ControlKind, Names
from app.steps.item_run import ITEM_RUN, ItemRunConfig, ItemRunKind
from app.templating.compiler import Compiled, compile_value


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStep:
    """One step with all that is within it."""

    parts: StepParts
    known: NamedSteps
    dependencies: tuple[str, ...]
    bodies: Mapping[str | None, tuple[BlockStep, ...]]
    until: Compiled | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedBody:
    """What the run of one item of a distributed map does."""

    steps: tuple[BlockStep, ...]
    block: Block


@dataclass(frozen=True, slots=True)
class _Outward:
    """What the steps of a block read around it → the key of the first of them that does."""

    needs: dict[Need, str]

    def add(self, needs: Iterable[Need], key: str) -> None:
        """Needs as seen from within the block; those it meets itself are left out."""
        for level, step in needs:
            if level > 0:
                self.needs.setdefault((level - 1, step), key)


class BlockCompiler:
    """Compiles the blocks of one document. What is wrong goes to the findings."""

    __slots__ = ("_findings", "_steps")

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._steps = StepCompiler(findings)

    def compile(
        self, drafts: Mapping[str, Draft], known: NamedSteps, *, whole: bool = False
    ) -> tuple[BlockStep, ...]:
        """The steps of a block that is within no step."""
        return self._block(drafts, known, whole=whole)[0]

    def _block(
        self, drafts: Mapping[str, Draft], known: NamedSteps, *, whole: bool
    ) -> tuple[tuple[BlockStep, ...], _Outward]:
        outward = _Outward({})
        steps: list[BlockStep] = []
        through: dict[tuple[str, str], str] = {}
        for draft in drafts.values():
            parts = self._steps.compile(draft, known, whole=whole)
            bodies, until, within = self._bodies(draft, known)
            outward.add(parts.needed, draft.key)
            for (level, step), key in within.needs.items():
                outward.add([(level, step)], key)
                if level == 0:
                    through[draft.id, step] = key
            inferred = {step for level, step in (*parts.needed, *within.needs) if level == 0}
            for step in (*parts.named, *(step for level, step in parts.needed if level == 0)):
                through.pop((draft.id, step), None)
            # Sets have no order of their own, and a plan must be the same every time.
            ordered = sorted(inferred, key=known.position.__getitem__)
            dependencies = tuple(dict.fromkeys([*parts.named, *ordered]))
            steps.append(
                BlockStep(parts=parts, known=known, dependencies=dependencies, bodies=bodies, until=until)
            )
        self._report_cycles(steps, drafts, through)
        return tuple(steps), outward

    def _bodies(
        self, draft: Draft, known: NamedSteps
    ) -> tuple[dict[str | None, tuple[BlockStep, ...]], Compiled | None, _Outward]:
        bodies: dict[str | None, tuple[BlockStep, ...]] = {}
        until: Compiled | None = None
        outward = _Outward({})
        for body in draft.bodies:
            inside = body_names(known, draft, body, bound=bound_by(draft))
            self._steps.check_item_name(draft, inside)
            self._steps.check_item_run(draft, body)
            bodies[body.name], needs = self._block(body.drafts, inside, whole=False)
            for need, key in needs.needs.items():
                outward.needs.setdefault(need, key)
            until, read = self._steps.until(draft, inside)
            outward.add(read, draft.key)
        return bodies, until, outward

    def _report_cycles(
        self,
        steps: list[BlockStep],
        drafts: Mapping[str, Draft],
        through: Mapping[tuple[str, str], str],
    ) -> None:
        for circle in cycles({step.parts.draft.id: step.dependencies for step in steps}):
            path = []
            for step, needed in zip(circle, (*circle[1:], ""), strict=True):
                key = through.get((step, needed))
                path.append(step if key is None else f"{step} (for {key!r} within it)")
            self._findings.add(
                drafts[circle[0]].pointer,
                f"steps wait for each other: {' -> '.join(path)}",
                "each step waits for the next one; remove one of these dependencies or references",
            )


class BlockAssembler:
    """Makes the plan of blocks that have no problems, and gathers what the runner needs of their steps."""

    __slots__ = ("_defaults", "_distributes", "_models", "_service", "bodies", "steps")

    def __init__(
        self,
        defaults: DefaultsDocument,
        service: PlanDefaults,
        models: Mapping[str, str | None],
        *,
        distributes: bool = True,
    ) -> None:
        """`models` are those that made the vectors of steps, by key: names, or templates.

        Without `distributes` the steps of a distributed map stand in the plan as those of any other.
        """
        self.bodies: dict[str, DistributedBody] = {}
        """Those of distributed maps, by the keys of the maps."""
        self._distributes = distributes
        self._defaults = defaults
        self._service = service
        self._models = models
        self.steps: dict[str, CompiledStep] = {}
        """By key, each before those within it."""

    def block(self, steps: tuple[BlockStep, ...]) -> Block:
        """A block of the plan."""
        return Block(nodes=tuple(self._node(step) for step in steps))

    def _node(self, step: BlockStep) -> Node:
        draft, parts = step.parts.draft, step.parts
        kind = draft.kind or draft.control
        if draft.document is None or kind is None or parts.config is None:
            raise ValueError(f"the step {draft.id!r} has problems that were not raised")
        policies = self._policies(draft, parts)
        model = self._models.get(draft.key)
        self.steps[draft.key] = CompiledStep(
            id=draft.id,
            key=draft.key,
            type=draft.document.type,
            label=draft.document.name,
            kind=kind,
            config=parts.config,
            condition=parts.condition,
            on_error_value=parts.on_error,
            names=with_aliases(draft.names, step.known),
            timeout=policies.timeout,
            until=step.until,
            item_name="item" if draft.control is None else draft.control.item_name(parts.model),
            cache=parts.cache,
            embedding_model=None if model is None else compile_value(model),
        )
        return Node(
            id=draft.id,
            key=draft.key,
            depends_on=step.dependencies,
            run_on=draft.document.run_on,
            conditional=parts.condition is not None,
            retry=policies.retry,
            timeout=policies.timeout,
            continues=parts.on_error is not None,
            repeatable=policies.repeatable,
            control=None if draft.control is None else self._control(draft.control, step),
        )

    def _control(self, kind: ControlKind, step: BlockStep) -> Control:
        blocks = {name: self.block(body) for name, body in step.bodies.items()}
        control = kind.control(step.parts.model, blocks, conditional=step.until is not None)
        if not isinstance(control, Map) or not kind.distributed(step.parts.model):
            return control
        key = step.parts.draft.key
        self.bodies[key] = DistributedBody(steps=step.bodies[None], block=control.body)
        return replace(control, body=self._item_run(key)) if self._distributes else control

    def _item_run(self, owner: str) -> Block:
        """What stands in a plan for the steps of a distributed map: their run."""
        key, kind = item_run_key(owner), ItemRunKind()
        self.steps[key] = CompiledStep(
            id=ITEM_RUN,
            key=key,
            type=kind.name,
            label=None,
            kind=kind,
            config=compile_value({}),
            condition=None,
            on_error_value=None,
            names=OutputNames(step=ITEM_RUN, own=kind.outputs),
            timeout=None,
        )
        control = kind.control(ItemRunConfig(), {}, conditional=False)
        return Block(nodes=(Node(id=ITEM_RUN, key=key, control=control),))

    def _policies(self, draft: Draft, parts: StepParts) -> StepPolicies:
        document = draft.document
        if document is None or draft.kind is None:
            # What holds for attempts does not hold for a step that has none.
            timeout = document.timeout_seconds if document is not None else None
            return StepPolicies(retry=RetryPolicy(), timeout=timeout, repeatable=True)
        return policies_of(
            document,
            self._defaults,
            self._service,
            retried_by_default=draft.kind.retried_by_default,
            repeatable=draft.kind.repeatable(parts.model),
        )


def item_run_key(owner: str) -> str:
    """The key of the step that is the run of an item, by that of its map."""
    return f"{owner}.{ITEM_RUN}"


def bound_by(draft: Draft) -> Names:
    """The root names that the steps within a step see besides those around it."""
    return {} if draft.control is None else draft.control.bound(draft.config, draft.within)
