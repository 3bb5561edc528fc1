"""What every vendor's JSON has in common: written from our models, read leniently. No I/O, no vendor.

Reading is lenient because many servers speak a format nearly right: what is missing or of another type is
None or empty. What cannot be understood at all raises `Malformed`, and so does nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from app.ports.buffers import trimmed

CHECK_ADDRESS: Final = "ask the operator to check the instance's base_url, and what stands before the server"
_NUMBERS: Final = frozenset({float, int})


class Malformed(ValueError):
    """The answer is not what the format says; the text says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorError:
    """What an error body says."""

    code: str = ""
    type: str = ""
    message: str
    retry_after: float | None = None
    """Seconds the vendor asks to wait, where it says so in the body."""


def load(content: bytes) -> dict[str, Any]:
    """The JSON object an answer or an event holds."""
    value = load_any(content)
    if not isinstance(value, dict):
        raise Malformed("it is not a JSON object")
    return value


def load_list(content: bytes) -> list[Any]:
    """The JSON list an answer holds."""
    value = load_any(content)
    if not isinstance(value, list):
        raise Malformed("it is not a JSON list")
    return value


def load_any(content: bytes) -> Any:
    """The JSON value an answer holds."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if not content.strip():
            raise Malformed("it is empty") from None
        if is_page(content):
            raise Malformed(f"it is a web page and no JSON; {CHECK_ADDRESS}") from None
        raise Malformed(f"it is not JSON ({error.msg})") from None


def is_page(content: bytes) -> bool:
    """Whether it is HTML or XML: what proxies, sign-in pages and servers answer that are not the vendor's."""
    return content.lstrip()[:1] == b"<"


def dump(body: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """A request's body. Raises `ValueError` for what JSON cannot carry."""
    try:
        return trimmed(orjson.dumps(body, default=_plain))
    except TypeError as error:
        raise ValueError(f"the request cannot be written as JSON: {error}") from None


def json_text(value: object) -> str:
    """An object that an answer holds, as JSON text; `{}` for anything else. Raises `Malformed` for one that
    is nested deeper than can be written again."""
    try:
        return dump(value if isinstance(value, dict) else {}).decode()
    except ValueError as error:
        raise Malformed(str(error)) from None


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; empty where there is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def count(counts: object, key: str) -> int | None:
    """A count in an object; None where it is missing or no count."""
    value = counts.get(key) if isinstance(counts, dict) else None
    return value if type(value) is int and value >= 0 else None


def text(holder: object, key: str) -> str:
    """A text in an object; empty where it is missing or no text."""
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, str) else ""


def floats(value: object) -> list[float]:
    """A vector. Raises `Malformed` for anything that is no list of numbers."""
    if isinstance(value, list) and value and _NUMBERS.issuperset(map(type, value)):
        return value
    raise Malformed("a vector is not a list of numbers")


def vectors(values: Sequence[object], *, texts: int, dimensions: int | None) -> list[list[float]]:
    """A vector for each of so many texts, all of one length. Raises `Malformed` where they are not that."""
    if len(values) != texts:
        raise Malformed(f"it has {len(values)} embeddings for {texts} texts")
    found = [floats(value) for value in values]
    expected = dimensions or (len(found[0]) if found else 0)
    for vector in found:
        if len(vector) != expected:
            raise Malformed(f"an embedding has {len(vector)} dimensions instead of {expected}")
    return found


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")
