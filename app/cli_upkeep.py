"""The commands for whoever keeps an installation running: doctor | backup | restore | migrate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.invocation import INVALID, UNUSABLE, DataDir, fail, in_words, only_given, read_settings, settings_of
from app.invocation import run_to_end as run
from app.ports.errors import StoreError

commands = typer.Typer()

IN_POSTGRESQL = "runs are in the database of store.url: back it up with pg_dump, before this"


@commands.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Check settings, data directory, store, clock, providers and databases, and say what to do.

    Exit code 0: all is well, 1: warnings, 2: something fails. Nothing is changed, and no tokens are spent.
    """
    from app.doctor.examination import examine, settings_refused
    from app.doctor.findings import EXIT_CODES, worst
    from app.doctor.findings import as_json as json_of

    try:
        settings = read_settings(only_given(data_dir=data_dir))
    except (OSError, ValueError) as error:
        findings = settings_refused(in_words(error))
    else:
        findings = run(examine(settings))
    typer.echo(json_of(findings) if as_json else "\n".join(it.line() for it in findings))
    raise typer.Exit(EXIT_CODES[worst(findings)])


@commands.command()
def backup(
    target: Annotated[Path, typer.Argument(help="Folder to make; it must not be there yet.")],
    data_dir: DataDir = None,
) -> None:
    """Copy the databases of the data directory while the service is running.

    With store.url set only vectors are kept there: runs are in PostgreSQL, which pg_dump backs up.
    """
    from app.bootstrap import VECTORS_FILE
    from app.stores.backups import take_backup
    from app.stores.sql.schema import DATABASE_FILE

    settings = settings_of(only_given(data_dir=data_dir))
    names = [DATABASE_FILE, VECTORS_FILE]
    if settings.store.url is not None:
        typer.echo(f"llm-orchestrator: {IN_POSTGRESQL}", err=True)
        names = [VECTORS_FILE]
    try:
        taken = take_backup(settings.data_dir, target, names=names, now=time.time)
    except StoreError as error:
        fail(UNUSABLE, str(error))
    for file in taken.files:
        typer.echo(f"{target / file.name}: {file.bytes} bytes, whole")


@commands.command()
def restore(
    source: Annotated[Path, typer.Argument(help="Folder that backup made.")],
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the databases that are there.")] = False,
) -> None:
    """Put a backup into a data directory that no service uses."""
    from app.stores.backups import restore_backup

    settings = settings_of(only_given(data_dir=data_dir))
    restored = run(restore_backup(source, settings.data_dir, force=force))
    for file in restored.files:
        typer.echo(f"{settings.data_dir / file.name}: restored")


@commands.command()
def migrate(
    source: Annotated[
        Literal["sqlite"] | None,
        typer.Option("--from", help="Copy all that a store holds into that database: the one in data_dir."),
    ] = None,
    target: Annotated[
        Literal["postgresql"], typer.Option("--to", help="What store.url names; there is no other choice.")
    ] = "postgresql",
    data_dir: DataDir = None,
) -> None:
    """Bring the PostgreSQL database of store.url up to this release; harmless when it is already.

    With --from it must be empty and every service stopped; the source stays as it is.
    """
    from app.storage import migrate as migrate_database

    del target
    settings = settings_of(only_given(data_dir=data_dir))
    try:
        before, after = migrate_database(settings)
    except ValueError as error:
        fail(INVALID, f"settings: {error}")
    except StoreError as error:
        fail(UNUSABLE, str(error))
    if before is None:
        typer.echo(f"made the tables of schema version {after}")
    elif before == after:
        typer.echo(f"schema version {after}: up to date, nothing was changed")
    else:
        typer.echo(f"schema version {before} -> {after}")
    if source is not None:
        from app.storage import transfer

        for copied in run(transfer(settings)):
            typer.echo(f"{copied.table}: {copied.rows} rows, the same in both")
