"""The list of settings, made from the models themselves: what there is, what holds, and who says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import orjson
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from app.configuration import DATABASES, INSTANCES
from app.settings import CONFIG_VARIABLE, Settings
from app.settings_defaults import variable_rows
from app.steps.faults import in_words

PREFIX = "ORCHESTRATOR"
_BEGIN: Final = f"{PREFIX}_"
MASK: Final = "********"
_INSTANCES: Final[Mapping[str, Iterable[type[BaseModel]]]] = {"providers": INSTANCES, "databases": DATABASES}
"""Groups of instances by name → the models of their vendors."""
_VENDOR: Final = 2
"""Where pydantic's path into an instance has the vendor."""
WIDEST: Final = 40
"""Characters of a value before what follows it is no longer aligned."""
_OF_KUBERNETES: Final = re.compile(r"SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)\w*")
"""Variables that Kubernetes makes for a service called orchestrator."""


def settings_rows() -> list[tuple[str, str, str]]:
    """Variable, default and meaning of every setting; a default that is none is empty.

    Instances of providers and databases stand there once a vendor, under a name in angle brackets.
    """
    rows = [(CONFIG_VARIABLE, "", "YAML file with settings."), *_rows(Settings, (PREFIX,))]
    for group, models in _INSTANCES.items():
        for model in models:
            rows += _rows(model, (PREFIX, f"_{group.upper()}", f"<{_default(model.model_fields['vendor'])}>"))
    return [*rows, *variable_rows()]


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
            yield variable, _shown(_at(settings, path)), source, meaning + note
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


def fault(error: ValidationError) -> str:
    """Why settings cannot be used, in one line: the first thing that is wrong, without its value."""
    first = error.errors(include_url=False, include_input=True)[0]
    keys = [part for part in first["loc"] if part != "[key]"]
    if len(keys) > _VENDOR and keys[0] in _INSTANCES:
        # pydantic names the vendor of an instance as well, which no path of a setting does
        models = {_default(model.model_fields["vendor"]): model for model in _INSTANCES[str(keys[0])]}
        vendor = models.get(str(keys.pop(_VENDOR)))
    else:
        vendor = None
    where = ".".join(str(key) for key in keys)
    if first["type"] != "extra_forbidden":
        said = in_words(first, where)
        return said if where else said.removeprefix(": ")
    if vendor is None:
        near = _nearest(keys)
    else:
        named = get_close_matches(str(keys[-1]), vendor.model_fields, n=1, cutoff=0.5)
        near = ".".join([*map(str, keys[:-1]), *named]) if named else None
    meant = f"did you mean {near}?" if near else "`llm-orchestrator settings` lists all there are"
    return f"{where}: there is no such setting; {meant}"


def _nearest(path: Sequence[object]) -> str | None:
    """The setting that was probably meant by a path of keys that leads nowhere."""
    known = [".".join(name.removeprefix(f"{PREFIX}_").lower().split("__")) for name, *_ in settings_rows()]
    groups = {name.partition(".")[0] for name in known}
    near = get_close_matches(".".join(map(str, path)), groups if len(path) == 1 else known, n=1, cutoff=0.7)
    return near[0] if near else None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """What to do about each variable that begins like a setting and is none.

    Groups are told by their first word; what is wrong within one is an error of the settings themselves.
    """
    known = [name.removeprefix(_BEGIN) for name, *_ in settings_rows() if name.startswith(_BEGIN)]
    found = []
    for variable, value in sorted(environment.items()):
        name = variable.upper().removeprefix(_BEGIN)
        if not variable.upper().startswith(_BEGIN) or name in known:
            continue
        if name.partition("__")[0].lower() in Settings.model_fields:
            continue
        if _OF_KUBERNETES.fullmatch(name) or value.startswith("tcp://"):
            continue
        near = get_close_matches(name, known, n=1)
        found.append(unknown_variable({variable: value}) or _not_a_setting(variable, near))
    return found


def _not_a_setting(variable: str, near: Sequence[str]) -> str:
    return f"{variable} is no setting" + (f"; did you mean {_BEGIN}{near[0]}?" if near else "")


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
