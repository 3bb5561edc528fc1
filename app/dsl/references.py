"""What the references of a document's templates mean, and which steps they make a step wait for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from app.dsl.findings import Findings
from app.dsl.names import RUN_THAT_ENDED, NamedSteps
from app.steps.control import Names
from app.templating.compiler import Compiled, Reference
from app.templating.missing import spell

_ELSEWHERE: Final = frozenset({"item", "index", "loop"})
"""Names that only exist where something binds them: a map, a loop, or the template itself."""

Need = tuple[int, str]
"""A step that is waited for, and how many blocks further out it stands."""


def needed_steps(
    compiled: Compiled,
    known: NamedSteps,
    findings: Findings,
    *,
    under: str,
    step: str | None = None,
    whole: bool = False,
) -> set[Need]:
    """Steps that the templates of a value read; what does not exist is reported.

    `under` is where the value stands, `step` the step it belongs to, if it belongs to one. `whole`: it may
    read all steps at once, because they have ended.
    """
    needed = set()
    for part in compiled.parts:
        resolution = _Resolution(known, findings, under + part.pointer, step, whole)
        for reference in sorted(part.loaded.references, key=lambda one: (one.root, one.parts)):
            resolved = resolution.resolve(reference)
            if resolved is not None:
                needed.add(resolved)
    return needed


def check_inputs_only(compiled: Compiled, known: NamedSteps, findings: Findings, *, under: str) -> None:
    """Report what a value reads that is evaluated before there is a run."""
    for part in compiled.parts:
        resolution = _Resolution(known, findings, under + part.pointer, None, whole=False)
        for reference in sorted(part.loaded.references, key=lambda one: (one.root, one.parts)):
            if reference.root == "inputs":
                resolution.resolve(reference)
            else:
                detail = f"{reference.root!r} is not known before the run begins"
                findings.add(under + part.pointer, detail, "use inputs only: {{ inputs.<name> }}")


def check_dependency(needed: str, known: NamedSteps, findings: Findings, *, under: str, step: str) -> bool:
    """Whether `depends_on` may name that step; why not is reported."""
    if needed == step:
        findings.add(under, f"the step {step!r} depends on itself", "remove this dependency")
        return False
    level = known.level(needed)
    if level == 0:
        return True
    if level is None:
        hint = _place_hint(needed, known) or findings.spelling.hint(needed, known.steps)
        findings.add(under, f"unknown step {needed!r}", hint)
    elif known.is_within(needed):
        detail = f"the step {step!r} is within {needed!r} and cannot wait for it"
        findings.add(under, detail, "remove this dependency")
    elif handler := next((scope.block for scope in islice(known.outwards(), level) if not scope.owner), None):
        hint = f"remove it: {handler!r} begins when all of 'steps' have ended"
        findings.add(under, f"the step {needed!r} is not of this block", hint)
    else:
        hint = f"write depends_on: {needed} at {known.owner!r}, which this step is within"
        findings.add(under, f"the step {needed!r} is not of this block", hint)
    return False


@dataclass(frozen=True, slots=True)
class _Resolution:
    """References of one template."""

    known: NamedSteps
    findings: Findings
    pointer: str
    step: str | None
    whole: bool

    def resolve(self, reference: Reference) -> Need | None:
        """The step that a reference reads, if it reads one."""
        root, parts = reference.root, reference.parts
        match root:
            case "steps" | "outputs" if not parts:
                self._check_whole(root)
            case "steps":
                return self._of_steps(parts)
            case "outputs":
                return self._of_outputs(parts)
            case "inputs":
                if parts and self.known.inputs_closed:
                    self._check_input(parts[0])
            case _ if root in self.known.bound:
                self._check_names(root, parts, self.known.bound[root])
            case _ if root in _ELSEWHERE:
                self.findings.add(self.pointer, f"{root!r} is not known here", self._binding_hint(root))
        return None

    def _of_steps(self, parts: tuple[str, ...]) -> Need | None:
        step = parts[0]
        if step not in self.known.names:
            self._unknown("unknown step", step, self.known.steps)
            return None
        names = self.known.names[step]
        need = self._other_than_itself(step)
        if need is not None and len(parts) > 1:
            if not names.has(parts[1]):
                hint = self.findings.spelling.hint(parts[1], names.known)
                self.findings.add(self.pointer, f"the step {step!r} has no output {parts[1]!r}", hint)
            elif parts[1] in names.inside:
                self._check_names("steps", parts[2:], names.inside[parts[1]], before=parts[:2])
        return need

    def _of_outputs(self, parts: tuple[str, ...]) -> Need | None:
        name = parts[0]
        if name in self.known.names:
            names = self.known.names[name]
            if names.whole and not names.open:
                self._check_names("outputs", parts[1:], dict.fromkeys(names.own), before=parts[:1])
            return self._other_than_itself(name)
        givers = self.known.givers.get(name, ())
        if len(givers) == 1:
            return self._other_than_itself(givers[0])
        if givers:
            listed = ", ".join(repr(giver) for giver in givers[:5])
            self.findings.add(
                self.pointer,
                f"{name!r} is an output of several steps: {listed}",
                f"write steps.{givers[0]}.{name} for the one you mean",
            )
        else:
            exhausted = self.findings.spelling.exhausted
            names_here = [] if exhausted else [*self.known.steps, *self.known.givers]
            self._unknown("unknown step or output", name, names_here)
        return None

    def _other_than_itself(self, step: str) -> Need | None:
        level = self.known.level(step)
        if level is None:
            return None
        if level == 0 and step == self.step:
            detail = f"the step {step!r} reads its own output"
            self.findings.add(self.pointer, detail, "read another step's")
            return None
        if level > 0 and self.known.is_within(step):
            detail = f"this is within {step!r}, whose outputs are there when it has ended"
            self.findings.add(self.pointer, detail, "read the steps beside this one, by their own ids")
            return None
        return level, step

    def _check_input(self, name: str) -> None:
        if name not in self.known.inputs:
            hint = self.findings.spelling.hint(name, self.known.inputs)
            self.findings.add(
                self.pointer, f"unknown input {name!r}", hint or "declare it under 'inputs.properties'"
            )

    def _check_names(
        self, root: str, parts: Iterable[str], names: Names | None, before: tuple[str, ...] = ()
    ) -> None:
        for part in parts:
            if names is None:
                return
            if part not in names:
                hint = self.findings.spelling.hint(part, names)
                if root == "run" and not before and part in RUN_THAT_ENDED:
                    hint = "only 'on_failure' and 'finally' know how the run went"
                self.findings.add(self.pointer, f"{spell(root, before)} has no {part!r}", hint)
                return
            names, before = names[part], (*before, part)

    def _check_whole(self, root: str) -> None:
        if not self.whole:
            self.findings.add(
                self.pointer,
                f"{root!r} as a whole does not tell which steps to wait for",
                f"name the step: {root}.<id>",
            )

    def _binding_hint(self, root: str) -> str:
        items = [name for name, names in self.known.bound.items() if names is None and name != "index"]
        if root == "item" and items:
            return f"an item is called {items[-1]!r} here"
        return "write {% for item in … %} around it, or a path from inputs, steps or outputs"

    def _unknown(self, what: str, name: str, known: Collection[str]) -> None:
        hint = _place_hint(name, self.known) or self.findings.spelling.hint(name, known)
        self.findings.add(self.pointer, f"{what} {name!r}", hint)


def _place_hint(step: str, known: NamedSteps) -> str | None:
    """Where a step is that exists, but cannot be read by its id alone."""
    places = known.inner.get(step, ())
    for place in places:
        if place.owner is None or known.level(place.owner) is None:
            continue
        if known.is_within(place.owner):
            return f"it is in another case of {place.owner!r}, and only one of them runs"
        return f"it is within {place.owner!r}: write {spell('steps', place.reading)}"
    if places:
        return f"it is within {places[0].block!r} and can be read there only"
    return None
