"""`llm-orchestrator`: serve | worker | run | validate | plan | test | demo | settings | openapi | schema, and
the commands of `app.cli_upkeep`. A document's problems are one line each, on stderr.

Commands import what they need when they run, so that `--help` and `serve` start fast; and most of it after
the settings are read, because those are what is refused most.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli_upkeep import commands as upkeep
from app.invocation import (
    INTERRUPTED,
    INVALID,
    NOT_COMPLETED,
    OK,
    UNUSABLE,
    DataDir,
    fail,
    in_words,
    only_given,
    run_to_end,
    settings_of,
)
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.problems import Problem

if TYPE_CHECKING:
    from app.bootstrap import Service
    from app.settings import Settings

cli = typer.Typer(
    name="llm-orchestrator",
    help="LLM workflows as a service.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Document = Annotated[Path, typer.Argument(help="A workflow document (YAML or JSON); - reads standard input.")]
InputPairs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", help="name=value; JSON values are taken as such, @file reads one."),
]
WholeInputs = Annotated[str | None, typer.Option("--inputs", help="All inputs as a JSON object.")]


@cli.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda asked: _tell_version(asked=asked),
            help="Print the version and stop.",
        ),
    ] = False,
) -> None:
    """LLM workflows as a service."""


def _tell_version(*, asked: bool) -> None:
    if asked:
        typer.echo(f"llm-orchestrator {metadata.version('llm-orchestrator')}")
        raise typer.Exit(OK)


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Serve the REST API until SIGTERM or Ctrl-C."""
    gc.disable()  # hardly anything of what importing makes is garbage; the server turns it on again
    settings = settings_of(only_given(server=only_given(host=host, port=port), data_dir=data_dir))
    from app.bootstrap import build
    from app.server import run_service

    _prepare(settings)
    _run(run_service(settings, _built(build, settings)))


@cli.command()
def worker(
    runs: Annotated[int | None, typer.Option(min=1, help="Runs at once.")] = None,
    task_queue: Annotated[str | None, typer.Option(help="Task queue to take runs from.")] = None,
    health_host: Annotated[str | None, typer.Option(help="Address to answer probes on.")] = None,
    health_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of /healthz, /readyz and /metrics; 0 takes a free one."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Execute runs that Temporal places here (engine: temporal), until SIGTERM or Ctrl-C."""
    gc.disable()  # as for serve
    chosen = only_given(
        max_runs=runs, task_queue=task_queue, health_host=health_host, health_port=health_port
    )
    settings = settings_of(only_given(temporal=chosen, data_dir=data_dir))
    from app.bootstrap import build_worker
    from app.worker import run_worker_process

    _prepare(settings)
    _run(run_worker_process(settings, _built(build_worker, settings)))


@cli.command()
def run(  # noqa: PLR0917  typer makes options of parameters, whatever their kind
    file: Document,
    inputs: InputPairs = None,
    inputs_json: WholeInputs = None,
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
    settings = settings_of(only_given(data_dir=data_dir))
    source, name = _read(file)
    from app.local_run import LocalRun, local_service, run_document, stores_vectors

    given = _inputs(inputs, inputs_json)
    with ExitStack() as stack:
        if stores_vectors(source):
            _prepare(settings)
        else:
            settings = _aside(settings, stack)
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
    settings = settings_of({})
    from app.dsl.catalog import Catalog
    from app.services.configured import Configured
    from app.steps.registry import STEP_KINDS

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
            typer.echo(
                f"{name}: valid ({workflow.name} {workflow.version}, {len(workflow.written_steps)} steps)"
            )
    raise typer.Exit(INVALID if invalid else OK)


@cli.command()
def plan(
    file: Document,
    inputs: InputPairs = None,
    inputs_json: WholeInputs = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan as POST /v1/workflows/plan answers.")
    ] = False,
) -> None:
    """Say what a run would render, call and use at most, without calling anybody.

    Providers, databases and keys that the settings lack are warnings, as for validate.
    """
    settings = settings_of({})
    source, name = _read(file)
    from app.local_plan import plan_document, plan_json, plan_lines
    from app.local_run import local_service

    given = _inputs(inputs, inputs_json)
    with ExitStack() as stack:
        settings = _aside(settings, stack)
        service = _built(local_service, settings)
        planned = _run(plan_document(settings, service, source, given), document=name)
    _print_problems(name, planned.warnings, kind="warning: ")
    typer.echo(plan_json(planned) if as_json else "\n".join(plan_lines(planned)))


@cli.command("test")
def replay(
    file: Document,
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
        fail(INVALID, str(error))
    verdicts = _run(examine(source, recordings), document=name)
    differ = False
    for fixture, verdict in zip(fixtures, verdicts, strict=True):
        for line in report(str(fixture), verdict):
            typer.echo(line)
        if update and verdict.differences and verdict.renewed is not None:
            try:
                save(fixture, verdict.renewed)
            except ValueError as error:
                fail(UNUSABLE, str(error))
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
    settings = settings_of(only_given(server=only_given(port=port), data_dir=data_dir))
    from app.bootstrap import build
    from app.demo import run_demo

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
        _tell_unknown(environment())
        fail(INVALID, f"settings: {in_words(error)}; the defaults are listed")
    typer.echo(table)
    if _tell_unknown(environment()):
        raise typer.Exit(INVALID)


def _tell_unknown(environment: Mapping[str, str]) -> bool:
    """Variables that look like settings and are none, after the list, where they are seen."""
    from app.settings_faults import unknown_variables

    unknown = unknown_variables(environment)
    if unknown:
        typer.echo("llm-orchestrator: with these variables no other command starts:", err=True)
    for variable in unknown:
        typer.echo(f"llm-orchestrator: {variable}", err=True)
    return bool(unknown)


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from app.api.app import openapi_json
    from app.bootstrap import build

    typer.echo(openapi_json(_built(build, settings_of({})).app), nl=False)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of workflow documents, for editors."""
    from app.dsl.schema import schema_json
    from app.steps.registry import STEP_KINDS

    typer.echo(schema_json(STEP_KINDS), nl=False)


cli.add_typer(upkeep)


def main() -> None:
    """Entry point; Ctrl-C, wrong usage and settings that cannot work end in one line."""
    given = sys.argv[1:]
    try:
        code = cli(given or ["--help"], standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except typer.TyperException as error:
        # By itself it would be a box of several lines.
        said, context = " ".join(error.format_message().split()), getattr(error, "ctx", None)
        more = f" (see '{context.command_path} --help')" if context else ""
        typer.echo(f"llm-orchestrator: {said}{more}", err=True)
        sys.exit(error.exit_code)
    sys.exit((code or OK) if given else INVALID)


def _built(build: Callable[[Settings], Service], settings: Settings) -> Service:
    """A service of settings that are valid each by itself and may still not work."""
    try:
        return build(settings)
    except ValueError as error:
        fail(INVALID, f"settings: {error}")


def _inputs(pairs: list[str] | None, whole: str | None) -> dict[str, Any]:
    from app.local_run import read_inputs

    try:
        return read_inputs(pairs or [], whole)
    except ValueError as error:
        fail(INVALID, str(error))


def _aside(settings: Settings, stack: ExitStack) -> Settings:
    """The settings with a data directory that is gone afterwards."""
    folder = stack.enter_context(TemporaryDirectory(prefix="llm-orchestrator-"))
    return settings.model_copy(update={"data_dir": Path(folder)})


def _prepare(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        fail(UNUSABLE, f"data_dir {str(settings.data_dir)!r} cannot be used: {error.strerror}")


def _read(file: Path) -> tuple[bytes, str]:
    """A document, and what to call it; `-` stands for standard input."""
    if str(file) == "-":
        return sys.stdin.buffer.read(), "<stdin>"
    try:
        return file.read_bytes(), str(file)
    except OSError as error:
        fail(INVALID, f"{file}: {error.strerror}")


def _run(work: Coroutine[Any, Any, Any], *, document: str = "document") -> Any:
    """Run to the end; what the outside got wrong ends in one line, or in one a problem."""
    try:
        return run_to_end(work)
    except DefinitionInvalid as error:
        _print_problems(document, error.problems)
        raise typer.Exit(INVALID) from None
    except InputsInvalid as error:
        _print_problems("inputs", error.problems)
        raise typer.Exit(INVALID) from None


def _print_problems(where: str, problems: Iterable[Problem], *, kind: str = "") -> None:
    for problem in problems:
        place = f":{problem.line}:{problem.column}" if problem.line else ""
        hint = f" ({problem.hint})" if problem.hint else ""
        typer.echo(f"{where}{place}: {kind}{problem.pointer or '/'}: {problem.detail}{hint}", err=True)


if __name__ == "__main__":
    main()
