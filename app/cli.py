"""`llm-orchestrator`: serve | run | validate | test | demo | settings | openapi | schema.

Exit codes: 0 done; 1 a run or the demo did not complete, or a document differs from a recording; 2 wrong
usage, settings, document, inputs or recording; 3 the data directory, the address or the demo's models cannot
be used; 130 interrupted. Errors are one line on stderr; a document's problems are one line each.

Commands import what they need when they run, so that `--help` and `serve` start fast.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from app.ports.errors import CallError, DefinitionInvalid, InputsInvalid, StoreError
from app.ports.problems import Problem

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
    gc.disable()  # hardly anything of what importing makes is garbage; the server turns it on again
    from app.bootstrap import build
    from app.server import run_service

    settings = _settings(_given(server=_given(host=host, port=port), data_dir=data_dir))
    _prepare(settings)
    _run(run_service(settings, _built(build, settings)))


@cli.command()
def run(  # noqa: PLR0917  typer makes options of parameters, whatever their kind
    file: Annotated[Path, typer.Argument(help="A workflow document (YAML or JSON); - reads standard input.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="name=value; JSON values are taken as such, @file reads one."),
    ] = None,
    inputs_json: Annotated[str | None, typer.Option("--inputs", help="All inputs as a JSON object.")] = None,
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="A document that its workflow steps call.")
    ] = None,
    approve: Annotated[
        bool | None,
        typer.Option("--approve/--reject", help="Answer approvals so, instead of asking at the terminal."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Run a document in this process, with a live table; prints the outputs as JSON.

    The data directory is used only for the embedded vector database, where the document names it.
    """
    from app.local_run import LocalRun, local_service, read_inputs, run_document, stores_vectors

    settings = _settings(_given(data_dir=data_dir))
    try:
        given = read_inputs(inputs or [], inputs_json)
    except ValueError as error:
        _fail(INVALID, str(error))
    source, name = _read(file)
    with ExitStack() as stack:
        if stores_vectors(source):
            _prepare(settings)
        else:
            aside = stack.enter_context(TemporaryDirectory(prefix="llm-orchestrator-"))
            settings = settings.model_copy(update={"data_dir": Path(aside)})
        service = _built(local_service, settings)
        asked = LocalRun(
            source=source,
            inputs=given,
            others=[_read(other)[0] for other in others or ()],
            answer=None if approve is None else "approve" if approve else "reject",
        )
        completed = _run(run_document(settings, service, asked), document=name)
    raise typer.Exit(OK if completed else NOT_COMPLETED)


@cli.command()
def validate(
    files: Annotated[
        list[Path], typer.Argument(help="Workflow documents (YAML or JSON); - is standard input.")
    ],
) -> None:
    """Check documents without running them; every problem is listed with line and column.

    Providers and databases that the settings do not have are warnings: they may be configured elsewhere.
    """
    from app.dsl.catalog import Catalog
    from app.services.configured import Configured
    from app.steps.registry import STEP_KINDS

    settings = _settings({})
    configured = Configured(providers=frozenset(settings.all_providers()), databases=settings.all_databases())
    catalog = Catalog(STEP_KINDS)
    invalid = 0
    for file in files:
        source, name = _read(file)
        try:
            workflow = catalog.compile(source)
        except DefinitionInvalid as error:
            invalid += 1
            _print_problems(name, error.problems)
        else:
            _print_problems(name, configured.missing(workflow.document, source), kind="warning: ")
            typer.echo(f"{name}: valid ({workflow.name} {workflow.version}, {len(workflow.steps)} steps)")
    raise typer.Exit(INVALID if invalid else OK)


@cli.command("test")
def replay(
    file: Annotated[Path, typer.Argument(help="A workflow document (YAML or JSON); - reads standard input.")],
    fixtures: Annotated[
        list[Path], typer.Option("--fixture", "-f", help="A recording; give it once for each.")
    ],
    update: Annotated[
        bool, typer.Option("--update", help="Write the recordings as the document has it now.")
    ] = False,
) -> None:
    """Replay a document on recorded runs, without calling anybody; exit code 1 if anything differs.

    Recordings are exported from finished runs with POST /v1/runs/ID/fixture.
    """
    from app.replay import examine, read_recording, report, save

    source, name = _read(file)
    try:
        recordings = [read_recording(fixture) for fixture in fixtures]
    except ValueError as error:
        _fail(INVALID, str(error))
    verdicts = _run(examine(source, recordings), document=name)
    differ = False
    for fixture, verdict in zip(fixtures, verdicts, strict=True):
        for line in report(str(fixture), verdict):
            typer.echo(line)
        if update and verdict.differences and verdict.renewed is not None:
            try:
                save(fixture, verdict.renewed)
            except ValueError as error:
                _fail(UNUSABLE, str(error))
            typer.echo(f"{fixture}: updated")
        elif verdict.differences:
            differ = True
    raise typer.Exit(NOT_COMPLETED if differ else OK)


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
    """List every setting: its environment variable, value, where that comes from, and meaning."""
    from app.settings import Settings, environment, sources
    from app.settings_table import settings_rows, settings_table

    try:
        table = settings_table(Settings(), sources(), environment())
    except ValueError as error:
        typer.echo(
            "\n".join(f"{name}  {default or '-'}  {meaning}" for name, default, meaning in settings_rows())
        )
        _warn_of_unknown(environment())
        _fail(INVALID, f"settings: {_in_words(error)}; the defaults are listed")
    typer.echo(table)
    _warn_of_unknown(environment())


def _warn_of_unknown(environment: Mapping[str, str]) -> None:
    """Variables that look like settings and are none, after the list, where they are seen."""
    from app.settings_table import unknown_variables

    unknown = unknown_variables(environment)
    if unknown:
        typer.echo("llm-orchestrator: these variables begin like settings, and nothing reads them:", err=True)
    for variable in unknown:
        typer.echo(f"llm-orchestrator: warning: {variable}", err=True)


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from app.api.app import openapi_json
    from app.bootstrap import build

    typer.echo(openapi_json(_built(build, _settings({})).app), nl=False)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of workflow documents, for editors."""
    from app.dsl.schema import schema_json
    from app.steps.registry import STEP_KINDS

    typer.echo(schema_json(STEP_KINDS), nl=False)


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
    except (OSError, ValueError) as error:
        _fail(INVALID, f"settings: {_in_words(error)}")


def _in_words(error: Exception) -> str:
    """Why settings cannot be used, in one line."""
    from app.settings_table import fault

    return fault(error) if isinstance(error, ValidationError) else str(error)


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


def _read(file: Path) -> tuple[bytes, str]:
    """A document, and what to call it; `-` stands for standard input."""
    if str(file) == "-":
        return sys.stdin.buffer.read(), "<stdin>"
    try:
        return file.read_bytes(), str(file)
    except OSError as error:
        _fail(INVALID, f"{file}: {error.strerror}")


def _run(work: Coroutine[Any, Any, Any], *, document: str = "document") -> Any:
    """Run to the end on uvloop; what the outside got wrong ends in one line."""
    import uvloop

    try:
        return uvloop.run(work)
    except DefinitionInvalid as error:
        _print_problems(document, error.problems)
        raise typer.Exit(INVALID) from None
    except InputsInvalid as error:
        _print_problems("inputs", error.problems)
        raise typer.Exit(INVALID) from None
    except (StoreError, CallError, OSError) as error:
        _fail(UNUSABLE, str(error))
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None


def _print_problems(where: str, problems: Iterable[Problem], *, kind: str = "") -> None:
    for problem in problems:
        place = f":{problem.line}:{problem.column}" if problem.line else ""
        hint = f" ({problem.hint})" if problem.hint else ""
        typer.echo(f"{where}{place}: {kind}{problem.pointer or '/'}: {problem.detail}{hint}", err=True)


def _fail(code: int, message: str) -> NoReturn:
    typer.echo(f"llm-orchestrator: {message}", err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
