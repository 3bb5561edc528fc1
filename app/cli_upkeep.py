"""The commands for whoever keeps an installation running: doctor | backup | restore | migrate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.invocation import (
    INVALID,
    NOT_COMPLETED,
    UNUSABLE,
    DataDir,
    fail,
    in_words,
    only_given,
    read_settings,
    settings_of,
)
from app.invocation import run_to_end as run
from app.ports.errors import StoreError

if TYPE_CHECKING:
    from app.settings import Settings

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
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="VERSION",
            help="Schema version to go to, up or down, instead of this release's; with --from: postgresql.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would be done; exit code 1 if anything.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Go down, and drop what the earlier version does not know.")
    ] = False,
    source: Annotated[
        Literal["sqlite"] | None,
        typer.Option("--from", help="Copy all that a store holds into that database: the one in data_dir."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Bring the store to the schema of this release, while no service uses it; harmless when it is there.

    Each version is one transaction. With --from the database of store.url must be empty, and the source stays
    as it is.
    """
    version = _version(to, source)
    if check and (to or source or yes):
        raise typer.BadParameter("it goes with --data-dir only", param_hint="--check")
    settings = settings_of(only_given(data_dir=data_dir))
    if source is not None and settings.store.url is None:
        fail(INVALID, "settings: store.url is not set: name the PostgreSQL database to copy to")
    if check:
        _tell_standing(settings)
    else:
        _tell_migrated(settings, version, agreed=yes)
    if source is not None:
        from app.storage import transfer

        for copied in run(transfer(settings)):
            typer.echo(f"{copied.table}: {copied.rows} rows, the same in both")


def _version(to: str | None, source: str | None) -> int | None:
    """The schema version that `--to` names; None for this release's."""
    if source is not None:
        if to not in {None, "postgresql"}:
            raise typer.BadParameter("--from goes to 'postgresql' only", param_hint="--to")
        return None
    if to is not None and not (to.isascii() and to.isdecimal()):
        raise typer.BadParameter(f"{to!r} is no schema version: name a number", param_hint="--to")
    return None if to is None else int(to)


def _tell_standing(settings: Settings) -> None:
    from app.migration import standing

    try:
        now = run(standing(settings))
    except ValueError as error:
        fail(INVALID, f"settings: {error}")
    if now.found is None:
        typer.echo(f"there are no tables yet: the first start makes those of schema version {now.wanted}")
    elif not now.pending:
        typer.echo(f"schema version {now.found}: up to date")
    else:
        typer.echo(f"schema version {now.found}, this release needs {now.wanted}; pending:")
        for revision in now.pending:
            typer.echo(f"  {revision.version}: {revision.summary}")
        typer.echo(f"take a backup first: {_backup(settings)}")
        raise typer.Exit(NOT_COMPLETED)


def _tell_migrated(settings: Settings, to: int | None, *, agreed: bool) -> None:
    from app.migration import migrate as migrate_store
    from app.stores.migrations.history import WouldLose

    try:
        done = run(migrate_store(settings, to=to, agreed=agreed))
    except ValueError as error:
        fail(INVALID, f"settings: {error}")
    except WouldLose as error:
        for loss in error.losses:
            typer.echo(f"would drop {loss}", err=True)
        fail(INVALID, f"{error}: take a backup ({_backup(settings)}), then add --yes")
    if done.before is None:
        typer.echo(f"made the tables of schema version {done.after}")
    elif done.before == done.after:
        typer.echo(f"schema version {done.after}: up to date, nothing was changed")
    else:
        typer.echo(f"schema version {done.before} -> {done.after}")


def _backup(settings: Settings) -> str:
    if settings.store.url is None:
        return "llm-orchestrator backup FOLDER"
    return 'pg_dump --format=custom --file=orchestrator.dump "$ORCHESTRATOR_STORE__URL"'
