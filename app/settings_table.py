"""The list of settings, made from the models themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.settings import CONFIG_VARIABLE, EchoSettings, LocalSettings, OpenAISettings, Settings

PREFIX = "ORCHESTRATOR"


def settings_rows() -> list[tuple[str, str, str]]:
    """Variable, default and meaning of every setting; a default that is none is empty.

    Instances of providers stand there once a vendor, under a name in angle brackets.
    """
    rows = [(CONFIG_VARIABLE, "", "YAML file with settings."), *_rows(Settings, (PREFIX,))]
    for model in (OpenAISettings, EchoSettings, LocalSettings):
        rows += _rows(model, (PREFIX, "_PROVIDERS", f"<{_default(model.model_fields['vendor'])}>"))
    return [
        *rows,
        ("OPENAI_API_KEY", "", "Key of the default openai instance."),
        ("OPENAI_BASE_URL", "", "Base URL of the default openai instance."),
    ]


def settings_table() -> str:
    """One setting a line: variable, default, meaning."""
    rows = settings_rows()
    name_width = max(len(name) for name, _, _ in rows)
    default_width = max(len(default) for _, default, _ in rows)
    return "\n".join(
        f"{name:<{name_width}}  {default:<{default_width}}  {meaning}".rstrip()
        for name, default, meaning in rows
    )


def unknown_variable(environment: Mapping[str, str]) -> str | None:
    """What to do about a variable that looks like a setting and is none; None if there is no such one.

    Within a group pydantic-settings refuses unknown names itself; it passes over names whose first word
    is no group. Other programs may own variables with this prefix (Kubernetes does, for a service of that
    name), so one is only taken for a setting if it has the separator of groups, lacks just its group, or is
    one but for its underscores.
    """
    known = [name for name, _, _ in _rows(Settings, (PREFIX,))]
    bare = {name.replace("_", ""): name for name in known}
    for variable, value in environment.items():
        first, separator, _ = variable.upper().removeprefix(f"{PREFIX}_").partition("__")
        if not variable.upper().startswith(f"{PREFIX}_") or first.lower() in Settings.model_fields:
            continue
        grouped = next((name for name in known if name.endswith(f"__{first}")), None)
        meant = bare.get(variable.upper().replace("_", ""))
        if meant:
            return f"{variable} is no setting; did you mean {meant}?"
        if grouped and not separator and not value.startswith("tcp://"):
            return f"{variable} is no setting; did you mean {grouped}?"
        if separator:
            return f"{variable} is no setting; `llm-orchestrator settings` lists all there are"
    return None


def _rows(model: type[BaseModel], prefix: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        group = _group(field)
        if group is not None:
            yield from _rows(group, (*prefix, f"_{name.upper()}" if len(prefix) == 1 else name.upper()))
        elif name != "providers":
            path = (*prefix, f"_{name.upper()}" if len(prefix) == 1 else name.upper())
            yield _variable(path), _default(field), field.description or ""


def _variable(path: tuple[str, ...]) -> str:
    return "__".join(path).replace("___", "_", 1)


def _group(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=False)
    if value is None or field.is_required() or field.default_factory is not None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(value)
