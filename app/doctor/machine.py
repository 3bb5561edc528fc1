"""What this machine brings: the data directory, its room, optional packages, template workers."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from app.doctor.findings import Finding, fail, ok, warn
from app.ports.errors import TemplateFailed
from app.settings import Settings
from app.stores.sql.schema import DATABASE_FILE
from app.templating.compiler import compile_value
from app.templating.renderer import Renderer

LITTLE_BYTES: Final = 2**30
TOO_LITTLE_BYTES: Final = 100 * 2**20
OTHERS: Final = 0o077
"""Permissions of everybody but the owner."""
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "postgresql": ("asyncpg",),
    "temporal": ("temporalio",),
    "local": ("xllamacpp", "tokenizers", "safetensors"),
}
"""Packages of each extra of this project."""
_IN_A_WORKER: Final = "{{ inputs.number * 2 }}"
"""A template that is not plainly linear."""


def data_directory(data_dir: Path, *, vectors_file: str) -> Iterator[Finding]:
    """Whether this user can work there, whether others can read it, how much room is left."""
    check, name = "data directory", repr(str(data_dir))
    if not data_dir.exists():
        above = next(folder for folder in data_dir.absolute().parents if folder.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield ok(check, f"{name} is not there yet; the first start makes it")
        else:
            yield fail(check, f"{name} cannot be made", f"make it, for the user with the id {os.geteuid()}")
        return
    if not data_dir.is_dir() or not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        advice = f"make it a directory that the user with the id {os.geteuid()} can write to"
        yield fail(check, f"{name} cannot be used by this user", advice)
        return
    files = [data_dir / DATABASE_FILE, data_dir / vectors_file]
    yield _permissions(check, name, [it for it in files if it.exists()])
    yield _room(data_dir)


def _permissions(check: str, name: str, files: list[Path]) -> Finding:
    if refused := [it.name for it in files if not os.access(it, os.R_OK | os.W_OK)]:
        return fail(check, f"{_named(refused)} cannot be read and written", f"chown it to {os.geteuid()}")
    if open_to_others := [it.name for it in files if it.stat().st_mode & OTHERS]:
        return warn(check, f"others can read {_named(open_to_others)}", f"chmod 600 it in {name}")
    return ok(check, f"{name} can be used")


def _named(files: list[str]) -> str:
    return " and ".join(repr(name) for name in files)


def _room(data_dir: Path) -> Finding:
    free = shutil.disk_usage(data_dir).free
    detail = f"{free / 2**30:.1f} GiB are free for data_dir"
    if free < TOO_LITTLE_BYTES:
        return fail("free space", detail, "free space, or nothing can be stored any more")
    if free < LITTLE_BYTES:
        return warn("free space", detail, "free space, or delete old runs with runs.keep_finished_days")
    return ok("free space", detail)


def extras(settings: Settings) -> Iterator[Finding]:
    """Which optional packages are installed; one that the settings need is missing: a failure."""
    needed = {"postgresql": settings.store.url is not None, "temporal": settings.engine == "temporal"}
    absent = []
    for extra, packages in EXTRAS.items():
        versions = [_version(package) for package in packages]
        if all(versions):
            said = ", ".join(f"{name} {it}" for name, it in zip(packages, versions, strict=True))
            yield ok(f"extra {extra}", f"installed: {said}")
        elif needed.get(extra):
            advice = f"run pip install '.[{extra}]' in the checkout"
            yield fail(f"extra {extra}", "not installed, and the settings need it", advice)
        else:
            absent.append(extra)
    if absent:
        yield ok("extras", f"not installed and not needed: {', '.join(absent)}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


async def template_workers(renderer: Renderer) -> Finding:
    """Whether a template can be rendered in a process of its own."""
    begun = time.monotonic()
    try:
        await renderer.render(compile_value(_IN_A_WORKER), {"inputs": {"number": 21}})
    except TemplateFailed as error:
        return fail("template workers", str(error), "see that processes can be started, with enough memory")
    return ok("template workers", f"a process was started and rendered in {time.monotonic() - begun:.2f} s")
