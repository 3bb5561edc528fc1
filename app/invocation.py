"""What all commands share: their exit codes, how they read settings, how they end.

Exit codes: 0 done; 1 a run or the demo did not complete, a document differs from a recording, `doctor` has
warnings, or `migrate --check` found something to do; 2 wrong usage, settings, document, inputs or recording,
`doctor` found a failure, or `migrate` would drop something and was not told to; 3 the data directory, the
database or its schema version, Temporal, the address or the demo's models cannot be used; 130 interrupted.
Errors are one line on stderr.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from app.ports.errors import CallError, StoreError

if TYPE_CHECKING:
    from app.settings import Settings

T = TypeVar("T")

OK: Final = 0
NOT_COMPLETED: Final = 1
INVALID: Final = 2
UNUSABLE: Final = 3
INTERRUPTED: Final = 130

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases and the lock.")]


def only_given(**values: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None and value != {}}


def settings_of(given: dict[str, Any]) -> Settings:
    """The settings with what was given; ends the command where they cannot be used."""
    try:
        return read_settings(given)
    except (OSError, ValueError) as error:
        fail(INVALID, f"settings: {in_words(error)}")


def read_settings(given: dict[str, Any]) -> Settings:
    """The same. Raises `ValueError` or `OSError`."""
    from app.settings import Settings, environment  # noqa: PLC0415  heavy, and not needed for --help
    from app.settings_faults import unknown_variables  # noqa: PLC0415  as above

    if unknown := unknown_variables(environment()):
        raise ValueError(unknown[0])
    return Settings(**given)


def in_words(error: Exception) -> str:
    """Why settings cannot be used, in one line."""
    from app.settings_faults import fault  # noqa: PLC0415  as above

    return fault(error) if isinstance(error, ValidationError) else str(error)


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop; what the outside got wrong ends in one line."""
    import uvloop  # noqa: PLC0415  as above

    try:
        return uvloop.run(work)
    except (StoreError, CallError, OSError) as error:
        fail(UNUSABLE, str(error))
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None


def fail(code: int, message: str) -> NoReturn:
    """End the command."""
    typer.echo(f"llm-orchestrator: {message}", err=True)
    raise typer.Exit(code)
