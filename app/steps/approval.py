"""The `approval` kind: a question to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from app.core.plan import Approval, Block, OnTimeout
from app.ports.problems import Problem, pointer
from app.steps.control import BaseControl
from app.steps.fields import FilledText
from app.steps.kind import StepConfig, Templated
from app.steps.templates import holds_template


class ApprovalConfig(StepConfig):
    """Keys of an `approval` step. `form` is a JSON Schema of the data that come with an answer."""

    message: Templated[Annotated[FilledText, Field(max_length=10_000)]]
    """What the person is told."""
    form: dict[str, Any] | None = None
    """JSON Schema of the data that come with an answer, without templates."""
    on_timeout: OnTimeout = "fail"
    """What silence means when `timeout_seconds` are over."""


class ApprovalKind(BaseControl):
    """Waits for an answer, at most `timeout_seconds`; `on_timeout` says what silence means.

    Outputs: `action` (`approve` or `reject`), `data` (what came with it) and `by` (who answered, null
    where nobody did).
    """

    name: ClassVar[str] = "approval"
    config_model: ClassVar[type[StepConfig]] = ApprovalConfig
    outputs: ClassVar[tuple[str, ...]] = ("action", "data", "by")
    schemas: ClassVar[frozenset[str]] = frozenset({"form"})

    def check_common(self, config: ApprovalConfig, common: Mapping[str, Any]) -> Iterable[Problem]:
        """Silence has no end without a time."""
        if "on_timeout" in config.model_fields_set and common.get("timeout_seconds") is None:
            yield Problem(
                pointer=pointer("on_timeout"),
                detail="'on_timeout' without 'timeout_seconds': the step waits for an answer without end",
                hint="add 'timeout_seconds', such as 86400, or remove 'on_timeout'",
            )

    def check(self, config: ApprovalConfig) -> Iterable[Problem]:
        """A form is no template: answers are held against what was reviewed with the document."""
        if config.form is not None and holds_template(config.form):
            yield Problem(
                pointer=pointer("form"),
                detail="a form holds no templates",
                hint="write the schema out, and what changes from run to run into 'message'",
            )

    def control(
        self, config: ApprovalConfig, blocks: Mapping[str | None, Block], *, conditional: bool
    ) -> Approval:
        """What becomes of silence."""
        return Approval(on_timeout=config.on_timeout)
