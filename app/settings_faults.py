"""What is wrong with settings, in words: values that cannot be used, and names that no setting has.

pydantic-settings refuses what it does not know within a group and passes over everything else; so variables
are looked through here too. Messages name what was probably meant, and never repeat a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.settings import Settings
from app.settings_sources import CONFIG_VARIABLE
from app.settings_table import INSTANCE_MODELS, PREFIX, settings_rows, vendor_of
from app.steps.faults import in_words
from app.steps.transforms.function import kind_of

_BEGIN: Final = f"{PREFIX}_"
_LIST: Final = "`llm-orchestrator settings` lists all there are"
_VENDOR: Final = 2
"""Where pydantic's path into an instance has the vendor."""
_FEW: Final = 4
"""So many settings are named where none is near to what was written."""
_NEAR: Final = 0.5
_NEAR_VENDOR: Final = 0.75
_OF_KUBERNETES: Final = re.compile(
    r"([A-Z0-9]+_)*(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
)
"""Variables that Kubernetes makes for services whose names begin with orchestrator."""
_OF_TESTS: Final = frozenset({f"{_BEGIN}REQUIRE_ALL", f"{_BEGIN}SPECS_DIR"})
"""Variables that a shell may hold for this project's own tests."""
_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")
"""How the values of those begin that have no such name."""


def fault(error: ValidationError) -> str:
    """Why settings cannot be used, in one line: the first thing that is wrong, without its value."""
    first = _telling(error.errors(include_url=False, include_input=True))
    path = [part for part in first["loc"] if part != "[key]"]
    where = _where(path)
    match first["type"]:
        case "extra_forbidden":
            return f"{where}: there is no such setting; {_meant(path)}"
        case "vendor":
            return _vendor_fault(where, str(path[0]), first)
        case "missing" if path[-1] == "vendor":
            return f"{where} is missing"
    said = in_words(first, where)
    return said if where else said.removeprefix(": ")


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """What to do about each variable that begins like a setting and is none.

    What is wrong within a group is an error of the settings themselves. Variables that Kubernetes makes for
    a service of that name are passed over.
    """
    known = [name for name, *_ in settings_rows() if name.startswith(_BEGIN)]
    found = []
    for variable, value in sorted(environment.items()):
        name = variable.upper()
        if name.startswith(_BEGIN) and not _is_known(name) and not _is_of_kubernetes(name, value):
            near = _near_variable(name, known)
            found.append(f"{variable} is no setting; " + (f"did you mean {near}?" if near else _LIST))
    return found


def _is_known(name: str) -> bool:
    """Whether a variable is read, or is for the settings themselves to refuse."""
    first, *further = name.removeprefix(_BEGIN).lower().split("__")
    field = Settings.model_fields.get(first)
    if field is None:
        return name == CONFIG_VARIABLE or name in _OF_TESTS
    return not further or get_origin(field.annotation) is dict or _model(field.annotation) is not None


def _is_of_kubernetes(name: str, value: str) -> bool:
    rest = name.removeprefix(_BEGIN)
    return "__" not in rest and bool(_OF_KUBERNETES.fullmatch(rest) or _ADDRESS.match(value))


def _near_variable(name: str, known: Sequence[str]) -> str | None:
    """The variable that was probably meant: without underscores the same, without its group, or alike."""
    bare = name.replace("_", "")
    first, separator, further = name.removeprefix(_BEGIN).partition("__")
    if first.lower() in Settings.model_fields:
        return f"{_BEGIN}{first}"
    for one in known:
        if one.replace("_", "") == bare or (not separator and one.endswith(f"__{first}")):
            return one
    groups = get_close_matches(first.lower(), Settings.model_fields, n=1)
    if separator and groups:
        return f"{_BEGIN}{groups[0].upper()}__{further}"
    stems = {one.removeprefix(_BEGIN): one for one in known}
    alike = get_close_matches(name.removeprefix(_BEGIN), stems, n=1)
    return stems[alike[0]] if alike else None


def _telling(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first error; of a setting that is missing and a misspelt one beside it, the latter."""
    first = errors[0]
    if first["type"] != "missing":
        return first
    beside = (it for it in errors if it["type"] == "extra_forbidden" and it["loc"][:-1] == first["loc"][:-1])
    return next(beside, first)


def _where(path: Sequence[int | str]) -> str:
    """A setting as it is written: pydantic names the vendor of an instance as well."""
    keys = [part for at, part in enumerate(path) if at != _VENDOR or path[0] not in INSTANCE_MODELS]
    return ".".join(map(str, keys))


def _vendor_fault(where: str, group: str, wrong: ErrorDetails) -> str:
    given = wrong["input"]
    if not isinstance(given, Mapping):
        return f"{where} should be an object and is {kind_of(given)}"
    vendors = [vendor_of(model) for model in INSTANCE_MODELS[group]]
    near = get_close_matches(str(given.get("vendor", "")).lower(), vendors, n=1, cutoff=_NEAR_VENDOR)
    if near:
        return f"{where}.vendor: there is no such vendor; did you mean {near[0]}?"
    return in_words(wrong, where)


def _meant(path: Sequence[int | str]) -> str:
    """What to do about a path of keys that leads nowhere."""
    *group, key = path
    names = _names_at(group)
    if not group:
        ends = (name for name, *_ in settings_rows() if name.endswith(f"__{str(key).upper()}"))
        if (one := next(ends, None)) and "<" not in one:
            return f"did you mean {'.'.join(one.removeprefix(_BEGIN).lower().split('__'))}?"
    near = _near(str(key), names)
    if near:
        return f"did you mean {_where([*group, near])}?"
    return f"there are {', '.join(names)}" if 0 < len(names) <= _FEW else _LIST


def _names_at(path: Sequence[int | str]) -> list[str]:
    """The settings that there are at a place, by pydantic's path to it."""
    here: Any = Settings
    for at, key in enumerate(path):
        if (model := _model(here)) is not None:
            here = model.model_fields[str(key)].annotation
        elif get_origin(here) is dict:
            here = get_args(here)[1]
        elif at == _VENDOR:
            here = next(it for it in INSTANCE_MODELS[str(path[0])] if vendor_of(it) == key)
    model = _model(here)
    return list(model.model_fields) if model is not None else []


def _near(word: str, names: Iterable[str]) -> str | None:
    """The name that is alike, or that a word abbreviates (`rpm`)."""
    known = list(names)
    alike = get_close_matches(word.lower(), known, n=1, cutoff=_NEAR)
    initials = {"".join(part[0] for part in name.split("_")): name for name in known if "_" in name}
    return alike[0] if alike else initials.get(word.lower())


def _model(annotation: Any) -> type[BaseModel] | None:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None
