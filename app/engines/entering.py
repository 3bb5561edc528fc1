"""What a control step begins with, as the event that says so: its rendered keys, checked by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from app.core import events as e
from app.core.plan import Approval, Branch, Child, Control, Loop, Map, Parallel, Wait
from app.dsl.compiled import CompiledStep
from app.engines.identity import RunIdentity, derived_id
from app.ports.errors import PermanentError


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A control step that is being entered."""

    run: RunIdentity
    step: CompiledStep
    path: str
    at: float

    def event(self, control: Control | None, rendered: Any) -> tuple[e.Event, Mapping[str, Any] | None]:
        """The event, and what travels beside it. Raises `ValidationError` and `PermanentError`.

        For a `workflow` step `rendered` is what `Children.resolve` made of its keys.
        """
        path, now = self.path, self.at
        if isinstance(control, Child):
            return e.ChildStarted(path=path, run_id=derived_id(self.run.run_id, path), at=now), rendered
        config: Any = self.step.kind.config_model.of_rendered(rendered)
        match control:
            case Branch(cases=cases):
                name = config.condition
                return e.BranchChosen(path=path, case=name if name in cases else None, at=now), None
            case Map():
                items = list(config.items)
                return e.ItemsCounted(path=path, count=len(items), at=now), {"items": items}
            case Wait():
                instant = config.until is not None
                due_at = config.until if instant else now + config.seconds
                return e.WaitStarted(path=path, due_at=due_at, at=now, instant=instant), None
            case Approval():
                approval_id = derived_id(self.run.run_id, path)
                asked = {"message": config.message, "form": config.form}
                return e.ApprovalRequested(path=path, approval_id=approval_id, at=now), asked
            case Parallel() | Loop() | None:
                raise PermanentError("internal", f"step {path!r} begins with nothing to be evaluated")
            case _:
                assert_never(control)
