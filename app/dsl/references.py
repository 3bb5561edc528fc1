"""What the names in a document's templates stand for, and which steps they make a step wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from app.dsl.findings import Findings
from app.dsl.inputs import Inputs
from app.dsl.naming import OutputNames
from app.templating.compiler import Compiled, Reference

_ELSEWHERE = frozenset({"item", "index", "loop"})
"""Names that only exist inside a loop; there the template itself binds them."""
FAILURE: Final = "error"
"""What `steps.<id>` holds of a failed step, besides its outputs: `{class, message}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSteps:
    """The names that a document's templates may use. Satisfies `app.steps.kind.Scope`."""

    inputs: frozenset[str]
    """Declared inputs."""
    inputs_closed: bool
    """Whether no other input can be meant."""
    steps: Mapping[str, tuple[str, ...]]
    """Step ids, each with its output names."""
    position: Mapping[str, int]
    """Step ids, each with its place in the document."""
    unknown: frozenset[str]
    """Steps whose kind is not known: whatever is read from them passes."""
    givers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names that authors gave to outputs → the steps that have them."""


def named_steps(names: Mapping[str, OutputNames], unknown: Iterable[str], inputs: Inputs) -> NamedSteps:
    """The names of a document, by step id."""
    givers: dict[str, list[str]] = {}
    for step, outputs in names.items():
        for given in outputs.given:
            givers.setdefault(given, []).append(step)
    return NamedSteps(
        inputs=inputs.names,
        inputs_closed=inputs.closed,
        steps={step: outputs.known for step, outputs in names.items()},
        position={step: position for position, step in enumerate(names)},
        unknown=frozenset(unknown),
        givers=givers,
    )


def with_aliases(names: OutputNames, known: NamedSteps) -> OutputNames:
    """The same names, and those among the author's that stand in `outputs` for themselves."""
    aliases = {
        given: own
        for own, given in zip(names.own, names.given, strict=False)
        if given not in known.steps and len(known.givers[given]) == 1
    }
    return replace(names, aliases=aliases)


def needed_steps(
    compiled: Compiled, known: NamedSteps, findings: Findings, *, under: str, step: str | None
) -> set[str]:
    """Steps that the templates of a value read; what does not exist is reported.

    `under` is where the value stands, `step` the step it belongs to (None: the workflow's outputs, which
    may read everything).
    """
    needed = set()
    for part in compiled.parts:
        for reference in sorted(part.loaded.references, key=lambda one: (one.root, one.parts)):
            resolved = _Resolution(known, findings, under + part.pointer, step).resolve(reference)
            if resolved is not None:
                needed.add(resolved)
    return needed


@dataclass(frozen=True, slots=True)
class _Resolution:
    """References of one template."""

    known: NamedSteps
    findings: Findings
    pointer: str
    step: str | None

    def resolve(self, reference: Reference) -> str | None:
        """The step that a reference reads, if it reads one."""
        match reference.root:
            case "steps" | "outputs" if not reference.parts:
                self._check_whole(reference.root)
                return None
            case "steps":
                return self._of_steps(reference.parts)
            case "outputs":
                return self._of_outputs(reference.parts[0])
            case "inputs" if reference.parts and self.known.inputs_closed:
                self._check_input(reference.parts[0])
            case root if root in _ELSEWHERE:
                hint = "write {% for item in … %} around it, or a path from inputs, steps or outputs"
                self.findings.add(self.pointer, f"{root!r} is not known here", hint)
        return None

    def _of_steps(self, parts: tuple[str, ...]) -> str | None:
        step = parts[0]
        if step not in self.known.steps:
            self._unknown("unknown step", step, self.known.steps)
            return None
        names = self.known.steps[step]
        if step == self.step:
            return self._other_than_itself(step)
        if len(parts) > 1 and parts[1] not in (*names, FAILURE) and step not in self.known.unknown:
            hint = self.findings.spelling.hint(parts[1], names)
            self.findings.add(self.pointer, f"the step {step!r} has no output {parts[1]!r}", hint)
        return step

    def _of_outputs(self, name: str) -> str | None:
        if name in self.known.steps:
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
            self._unknown("unknown step or output", name, [*self.known.steps, *self.known.givers])
        return None

    def _other_than_itself(self, step: str) -> str | None:
        if step != self.step:
            return step
        self.findings.add(self.pointer, f"the step {step!r} reads its own output", "read another step's")
        return None

    def _check_input(self, name: str) -> None:
        if name not in self.known.inputs:
            hint = self.findings.spelling.hint(name, self.known.inputs)
            self.findings.add(
                self.pointer, f"unknown input {name!r}", hint or "declare it under 'inputs.properties'"
            )

    def _check_whole(self, root: str) -> None:
        if self.step is not None:
            self.findings.add(
                self.pointer,
                f"{root!r} as a whole does not tell which steps to wait for",
                f"name the step: {root}.<id>",
            )

    def _unknown(self, what: str, name: str, known: Mapping[str, object] | Sequence[str]) -> None:
        self.findings.add(self.pointer, f"{what} {name!r}", self.findings.spelling.hint(name, list(known)))
