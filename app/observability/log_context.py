"""What log lines say beside their event: of which request, run, step and attempt they are.

All names of a context are one variable, because a context is entered with every request and every attempt;
structlog's own takes one variable a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, Final

from structlog.typing import EventDict, WrappedLogger

Names = Mapping[str, Any]

NONE: Final[Names] = MappingProxyType({})
_names: ContextVar[Names] = ContextVar("log_names", default=NONE)


def names() -> Names:
    """What is bound here."""
    return _names.get()


def bind(**more: Any) -> Token[Names]:
    """Have lines say these, too, in this context and those that are made of it; `reset` ends it."""
    return _names.set({**_names.get(), **more})


def bind_only(**these: Any) -> Token[Names]:
    """The same, and forget what was bound before."""
    return _names.set(these)


def reset(token: Token[Names]) -> None:
    """Go back to what was bound before, in the context that gave the token."""
    _names.reset(token)


def add_names(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor of structlog's: what the line itself says goes first."""
    return {**names(), **event}
