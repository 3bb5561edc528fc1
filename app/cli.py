"""`llm-orchestrator`: serve | run | validate | demo | settings | openapi.

Exit codes: 0 done; 1 a run or the demo did not complete; 2 wrong usage, settings, document or inputs; 3 the
data directory, the address or the demo's models cannot be used; 130 interrupted. Errors are one line on
stderr; a document's problems are one line each.

Commands import what they need when they run, so that `--help` and `serve` start fast.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from app.ports.errors import CallError, DefinitionInvalid, InputsInvalid, StoreError

if TYPE_CHECKING:
    from app.bootstrap import Service
    from app.settings import Settings

OK, NOT_COMPLETED, INVALID, UNUSABLE, INTERRUPTED = 0, 1, 2, 3, 130

cli = typer.Typer(
    name="llm-orchestrator",
    help="LLM workflows as a service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases and the lock.")]


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Serve the REST API until SIGTERM or Ctrl-C."""
    from app.bootstrap import build
    from app.server import run_service

    settings = _settings(_given(server=_given(host=host, port=port), data_dir=data_dir))
    _prepare(settings)
    _run(run_service(settings, _built(build, settings)))


@cli.command()
def run(
    file: Annotated[Path, typer.Argument(help="A workflow document (YAML or JSON).")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="name=value; JSON values are taken as such, @file reads one."),
    ] = None,
    inputs_json: Annotated[str | None, typer.Option("--inputs", help="All inputs as a JSON object.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Run a document in this process, with a live table; prints the outputs as JSON."""
    from app.local_run import local_service, read_inputs, run_document

    settings = _settings(_given(data_dir=data_dir))
    _prepare(settings)
    try:
        given = read_inputs(inputs or [], inputs_json)
    except ValueError as error:
        _fail(INVALID, str(error))
    source = _read(file)
    service = _built(local_service, settings)
    completed = _run(run_document(settings, service, source, given), document=str(file))
    raise typer.Exit(OK if completed else NOT_COMPLETED)


@cli.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Workflow documents (YAML or JSON).")],
) -> None:
    """Check documents without running them; every problem is listed with line and column."""
    from app.dsl.catalog import Catalog
    from app.steps.registry import STEP_KINDS

    catalog = Catalog(STEP_KINDS)
    invalid = 0
    for file in files:
        try:
            workflow = catalog.compile(_read(file))
            typer.echo(f"{file}: valid ({workflow.name} {workflow.version}, {len(workflow.steps)} steps)")
        except DefinitionInvalid as error:
            invalid += 1
            _print_problems(str(file), error)
    raise typer.Exit(INVALID if invalid else OK)


@cli.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the answer.")] = False,
    question: Annotated[str | None, typer.Option(help="Ask something else.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Ingest the shipped documents, answer a question over HTTP, and leave the service running."""
    from app.bootstrap import build
    from app.demo import run_demo

    settings = _settings(_given(server=_given(port=port), data_dir=data_dir))
    _prepare(settings)
    service = _built(build, settings)
    raise typer.Exit(_run(run_demo(settings, service, question=question, once=once)))


@cli.command("settings")
def list_settings() -> None:
    """List every setting: its environment variable, default and meaning."""
    from app.settings_table import settings_table

    typer.echo(settings_table())


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from app.api.app import openapi_json
    from app.bootstrap import build

    typer.echo(openapi_json(_built(build, _settings({})).app), nl=False)


def main() -> None:
    """Entry point; Ctrl-C and settings that cannot work end in one line."""
    try:
        cli()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _given(**values: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None and value != {}}


def _settings(given: dict[str, Any]) -> Settings:
    from app.settings import Settings
    from app.settings_table import unknown_variable

    if unknown := unknown_variable(os.environ):
        _fail(INVALID, f"settings: {unknown}")
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such setting; `llm-orchestrator settings` lists all there are"
        _fail(INVALID, f"settings: {f'{where}: ' if where else ''}{message}")
    except (OSError, ValueError) as error:
        _fail(INVALID, f"settings: {error}")


def _built(build: Callable[[Settings], Service], settings: Settings) -> Service:
    """A service of settings that are valid each by itself and may still not work."""
    try:
        return build(settings)
    except ValueError as error:
        _fail(INVALID, f"settings: {error}")


def _prepare(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        _fail(UNUSABLE, f"data_dir {str(settings.data_dir)!r} cannot be used: {error.strerror}")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        _fail(INVALID, f"{file}: {error.strerror}")


def _run(work: Coroutine[Any, Any, Any], *, document: str = "document") -> Any:
    """Run to the end on uvloop; what the outside got wrong ends in one line."""
    import uvloop

    try:
        return uvloop.run(work)
    except DefinitionInvalid as error:
        _print_problems(document, error)
        raise typer.Exit(INVALID) from None
    except InputsInvalid as error:
        _print_problems("inputs", error)
        raise typer.Exit(INVALID) from None
    except (StoreError, CallError, OSError) as error:
        _fail(UNUSABLE, str(error))
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None


def _print_problems(where: str, error: DefinitionInvalid | InputsInvalid) -> None:
    for problem in error.problems:
        place = f":{problem.line}:{problem.column}" if problem.line else ""
        hint = f" ({problem.hint})" if problem.hint else ""
        typer.echo(f"{where}{place}: {problem.pointer or '/'}: {problem.detail}{hint}", err=True)


def _fail(code: int, message: str) -> NoReturn:
    typer.echo(f"llm-orchestrator: {message}", err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
