"""The `action` kind: tells somebody that something happened.

Names are free. `log`, `emit` and `notify` with a `url` are built in; every other action is delivered to
the operator's webhook, or without one logged and recorded as an event. Waiting for an answer does not
belong here: that is the `http` kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final

import orjson
import structlog
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from app.ports.buffers import trimmed
from app.ports.errors import PermanentError
from app.ports.http import HttpClient, HttpRequest
from app.ports.problems import Problem, pointer
from app.ports.steps import StepContext, StepOutcome
from app.steps.base import BaseKind
from app.steps.faults import first_fault
from app.steps.http_answer import is_success, status_error
from app.steps.kind import StepConfig, Templated
from app.steps.masking import masked
from app.steps.templates import holds_template
from app.steps.urls import Url, host_of

MAX_DELIVERED_BYTES: Final = 1024 * 1024
MAX_RECORDED_BYTES: Final = 64 * 1024
MAX_MESSAGE: Final = 2_000
MAX_LOGGED: Final = 4_000
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,99}")
LEVELS: Final = ("debug", "info", "warning", "error")


def _one_word(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PydanticCustomError(
            "action_name", "Input should be one word of at most 100 letters, digits and '_.:/-'"
        )
    return name


class ActionConfig(StepConfig):
    """Keys of an `action` step; every further key is a parameter of the action."""

    model_config = ConfigDict(extra="allow", frozen=True)

    action: Templated[Annotated[str, AfterValidator(_one_word)]]
    """One word: `log`, `emit`, `notify`, or a name of yours."""
    parameters: Templated[dict[str, Any]] = Field(default_factory=dict)
    """What is told. It may stand beside `action` as well."""

    @property
    def merged(self) -> dict[str, Any]:
        """All parameters; one beside `action` wins over one of the same name in `parameters`."""
        return {**self.parameters, **(self.model_extra or {})}


class ActionKind(BaseKind):
    """Carries an action out.

    - `log`: a structured log line of `message`, at `level` (debug, info, warning, error), with the other
      parameters. Long texts are cut and values whose names speak of secrets are masked.
    - `emit`: an event of the run that holds the parameters (at most 64 KiB).
    - `notify` with a `url`: the envelope below is POSTed there. Without one it is like any other action.
    - any other name: the envelope is POSTed to the operator's action webhook; where there is none it is
      logged and recorded as an event.

    The envelope is `{action, parameters, workflow, run_id, step, idempotency_key}` (at most 1 MiB), and
    the key is also sent as `Idempotency-Key`, the same in every attempt.

    Outputs: `result`, `{action, delivered}`; `delivered` tells whether another service has taken it.

    Raises what the HTTP client raises, `TemporaryError` or `PermanentError` by the status of the answer,
    and `PermanentError("too_large")`.
    """

    name: ClassVar[str] = "action"
    config_model: ClassVar[type[StepConfig]] = ActionConfig
    outputs: ClassVar[tuple[str, ...]] = ("result",)

    def check(self, config: ActionConfig) -> Iterable[Problem]:
        """A `url` of `notify` and a `level` of `log` that are written out."""
        if not isinstance(config.parameters, dict):
            return
        parameters = config.merged
        if config.action == "notify" and "url" in parameters and not holds_template(parameters["url"]):
            try:
                _notify_url(parameters)
            except PermanentError as error:
                yield Problem(pointer=_place(config, "url"), detail=str(error))
        level = parameters.get("level", "info")
        if config.action == "log" and not holds_template(level) and level not in LEVELS:
            yield Problem(
                pointer=_place(config, "level"),
                detail=f"{level!r} is no log level",
                hint="use one of " + ", ".join(map(repr, LEVELS)),
            )

    async def execute(self, config: ActionConfig, context: StepContext) -> StepOutcome:
        """Log, record or deliver."""
        parameters = config.merged
        client = context.services.http
        match config.action:
            case "log":
                _log(config.action, parameters, context)
                return _outcome(config.action, delivered=False)
            case "emit":
                return _outcome(config.action, delivered=False, emitted=_event(config.action, parameters))
            case "notify" if "url" in parameters:
                url: str | None = _notify_url(parameters)
                parameters = {name: value for name, value in parameters.items() if name != "url"}
            case _:
                url, client = context.services.action_webhook, context.services.operator_http
        if url is None:
            emitted = _event(config.action, parameters)
            _log(config.action, parameters, context)
            return _outcome(config.action, delivered=False, emitted=emitted)
        await _deliver(client, url, config.action, parameters, context)
        return _outcome(config.action, delivered=True)


def _place(config: ActionConfig, key: str) -> str:
    beside = key in (config.model_extra or {})
    return pointer(key) if beside else pointer("parameters", key)


def _outcome(action: str, *, delivered: bool, emitted: Mapping[str, Any] | None = None) -> StepOutcome:
    return StepOutcome(
        outputs={"result": {"action": action, "delivered": delivered}},
        emitted=() if emitted is None else (emitted,),
    )


def _event(action: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    event = {"action": action, "parameters": dict(parameters)}
    _encoded(event, limit=MAX_RECORDED_BYTES, action=action)
    return event


def _log(action: str, parameters: Mapping[str, Any], context: StepContext) -> None:
    level = parameters.get("level", "info")
    message = parameters.get("message", "")
    further = {name: value for name, value in parameters.items() if name not in ("message", "level")}
    write = getattr(structlog.get_logger("app.steps.action"), level if level in LEVELS else "info")
    write(
        "action",
        action=action,
        message=str(message)[:MAX_MESSAGE],
        parameters=masked(further, limit=MAX_LOGGED),
        workflow=context.workflow,
        run_id=context.call.run_id,
        step=context.call.path,
        attempt=context.call.attempt,
    )


def _notify_url(parameters: Mapping[str, Any]) -> str:
    try:
        return TypeAdapter(Url).validate_python(parameters["url"])
    except ValidationError as error:
        fault = first_fault(error.errors(include_url=False), whole="the 'url' of 'notify'")
        raise PermanentError("invalid_request", fault) from None


async def _deliver(
    client: HttpClient, url: str, action: str, parameters: Mapping[str, Any], context: StepContext
) -> None:
    call = context.call
    envelope = {
        "action": action,
        "parameters": parameters,
        "workflow": context.workflow,
        "run_id": call.run_id,
        "step": call.path,
        "idempotency_key": call.idempotency_key,
    }
    response = await client.send(
        HttpRequest(
            method="POST",
            url=url,
            headers={"Content-Type": "application/json", "Idempotency-Key": call.idempotency_key},
            content=_encoded(envelope, limit=MAX_DELIVERED_BYTES, action=action),
            timeout_seconds=call.timeout_seconds,
        )
    )
    if not is_success(response.status):
        raise status_error(response, whom=f"the webhook at {host_of(url)!r}")


def _encoded(value: Mapping[str, Any], *, limit: int, action: str) -> bytes:
    try:
        content = trimmed(orjson.dumps(value))
    except TypeError as error:
        raise PermanentError(
            "invalid_request", f"the parameters of {action!r} cannot be written as JSON: {error}"
        ) from None
    if len(content) > limit:
        raise PermanentError(
            "too_large", f"the parameters of {action!r} take {len(content)} bytes; at most {limit} are sent"
        )
    return content
