"""The list of settings, made from the models themselves: what there is, what holds, and who says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from app.configuration import DATABASES, INSTANCES
from app.settings import Settings
from app.settings_defaults import variable_rows
from app.settings_sources import CONFIG_VARIABLE

PREFIX = "ORCHESTRATOR"
MASK: Final = "********"
INSTANCE_MODELS: Final[Mapping[str, Iterable[type[BaseModel]]]] = {
    "providers": INSTANCES,
    "databases": DATABASES,
}
"""Groups of instances by name → the models of their vendors."""
WIDEST: Final = 40
"""Characters of a value before what follows it is no longer aligned."""


def settings_rows() -> list[tuple[str, str, str]]:
    """Variable, default and meaning of every setting; a default that is none is empty.

    Instances of providers and databases stand there once a vendor, under a name in angle brackets.
    """
    rows = [(CONFIG_VARIABLE, "", "YAML file with settings."), *_rows(Settings, (PREFIX,))]
    for group, models in INSTANCE_MODELS.items():
        for model in models:
            rows += _rows(model, (PREFIX, f"_{group.upper()}", f"<{vendor_of(model)}>"))
    return [*rows, *variable_rows()]


def vendor_of(model: type[BaseModel]) -> str:
    """What an instance of a model speaks."""
    return _default(model.model_fields["vendor"])


def settings_table(
    settings: Settings,
    given: Sequence[tuple[str, Mapping[str, Any]]],
    environment: Mapping[str, str],
) -> str:
    """One setting a line: variable, value, where the value comes from, meaning. Secrets are masked.

    `given` is what the sources say (`app.settings.sources`), the first that names a value wins. Settings
    of instances stand there where they are set, and once a vendor for setting more.
    """
    rows = list(_effective(settings, given, environment))
    name_width = max(len(name) for name, *_ in rows)
    value_width = min(WIDEST, max(len(value) for _, value, *_ in rows))
    return "\n".join(
        f"{name:<{name_width}}  {value or '-':<{value_width}}  {source or '-':<11}  {meaning}"
        for name, value, source, meaning in rows
    )


def _effective(
    settings: Settings,
    given: Sequence[tuple[str, Mapping[str, Any]]],
    environment: Mapping[str, str],
) -> Iterator[tuple[str, str, str, str]]:
    """Variable, value, source and meaning."""
    instances = list(_instances(settings, given))
    for variable, default, meaning in settings_rows():
        path = variable.removeprefix(f"{PREFIX}_").lower().split("__")
        if "<" in variable:
            yield from instances
            instances.clear()
            yield variable, default, "", meaning
        elif path[0] in Settings.model_fields:
            source = _source(given, path)
            note = f" (default: {default})" if default and source != "default" else ""
            holds = _at(settings, path)
            # instances have rows of their own
            told = ",".join(holds) if path[0] in INSTANCE_MODELS else _shown(holds)
            yield variable, told, source, meaning + note
        else:
            value = environment.get(variable)
            shown = MASK if value and variable.endswith("_KEY") else value
            yield variable, shown or "", "environment" if value else "default", meaning


def _instances(
    settings: Settings, given: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[tuple[str, str, str, str]]:
    """What is set for instances of providers and databases."""
    groups: Mapping[str, Mapping[str, BaseModel]] = {
        "providers": settings.all_providers(),
        "databases": settings.databases,
    }
    for group, instances in groups.items():
        for name, config in instances.items():
            for key, field in type(config).model_fields.items():
                source = _source(given, [group, name, key])
                if source != "default":
                    variable = "__".join((f"{PREFIX}_{group.upper()}", name.upper(), key.upper()))
                    yield variable, _shown(getattr(config, key)), source, field.description or ""


def _source(given: Sequence[tuple[str, Mapping[str, Any]]], path: Sequence[str]) -> str:
    return next((name for name, said in given if _says(said, path)), "default")


def _says(said: Any, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(said, Mapping) or name not in said:
            return False
        said = said[name]
    return True


def _at(settings: Any, path: Sequence[str]) -> Any:
    for name in path:
        settings = getattr(settings, name)
    return settings


def _shown(value: Any) -> str:
    """A value as a variable would hold it. What follows a `?` in a URL may be a key."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, Mapping):
        return orjson.dumps({name: _shown(item) for name, item in value.items()}).decode() if value else ""
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(_shown(item) for item in value)
    if isinstance(value, BaseModel):
        return _shown(dict(value))
    text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
    return re.sub(r"^(https?://[^?#]*)[?#].*", rf"\1?{MASK}", text)


def _rows(model: type[BaseModel], prefix: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        group = _group(field)
        if group is not None:
            yield from _rows(group, (*prefix, f"_{name.upper()}" if len(prefix) == 1 else name.upper()))
        else:
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
