"""Whoever is called: providers, vector databases, Temporal. Nothing here costs tokens or changes anything.

A provider is asked for its base URL without a key, so any answer shows that it can be reached and none shows
that the key is accepted: the finding says so.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from app.bootstrap import Service
from app.databases import Database
from app.doctor.findings import Finding, fail, ok, warn
from app.engines.temporal.outbox import NotPlaced
from app.ports.errors import CallError, OrchestratorError
from app.providers.transport import Call, Transport
from app.settings import Settings
from app.settings_providers import ProviderSettings
from app.stores.sql.inspection import connect_read_only
from app.stores.vector_file import SCHEMA_VERSION

SECONDS: Final = 5.0
"""Longest that one callee may take."""
MOST_BYTES: Final = 2**20
SERVER_ERRORS: Final = 500


async def providers(settings: Settings, *, keyless: frozenset[str], transport: Transport) -> list[Finding]:
    """Every instance that was configured or has a key; the others in one line."""
    named = settings.all_providers()
    meant = {name for name, it in named.items() if name in settings.providers or _has_key(it)}
    calling = {name: it for name, it in named.items() if name in meant and _base_url(it)}
    findings = await asyncio.gather(
        *(_provider(name, it, transport, keyless=name in keyless) for name, it in calling.items())
    )
    rest = [name for name in named if name not in calling and _base_url(named[name])]
    return [*findings, *_not_set_up(rest)]


def _not_set_up(names: Sequence[str]) -> Iterator[Finding]:
    if names:
        yield ok("providers", f"not set up, so not checked: {', '.join(sorted(names))}")


def _has_key(settings: ProviderSettings) -> bool:
    return getattr(settings, "api_key", None) is not None


def _base_url(settings: ProviderSettings) -> str:
    return str(getattr(settings, "base_url", None) or "")


async def _provider(name: str, settings: ProviderSettings, transport: Transport, *, keyless: bool) -> Finding:
    check, url = f"provider {name}", _base_url(settings)
    if keyless:
        return fail(check, "it has no key, so every call is refused", f"set api_key of providers.{name}")
    who = f"{urlsplit(url).netloc}"
    call = Call(method="GET", url=url, who=who, timeout_seconds=SECONDS, max_bytes=MOST_BYTES)
    try:
        answer = await transport.exchange(call)
    except CallError as error:
        if error.error_class != "too_large":
            return fail(check, str(error), "check its base_url, the network and who is allowed out")
        status = 0
    else:
        status = answer.status
    if status >= SERVER_ERRORS:
        return warn(
            check, f"{who} answers with {status}", "see the vendor's status page, or the server's log"
        )
    key = "the key was not tried" if _has_key(settings) else "no key is set, and none may be needed"
    return ok(check, f"{who} can be reached; {key}")


async def databases(configured: Sequence[Database]) -> list[Finding]:
    """Every configured vector database, asked as its adapter does."""
    return list(await asyncio.gather(*map(_database, configured)))


async def _database(database: Database) -> Finding:
    check = f"vector database {database.name}"
    try:
        async with asyncio.timeout(SECONDS):
            await database.store.check()
    except TimeoutError:
        return fail(check, f"no answer within {SECONDS:.0f} s", "check its address and the network")
    except OrchestratorError as error:
        return fail(check, str(error))
    return ok(check, f"{database.vendor} answers")


def embedded_vectors(path: Path) -> Finding:
    """The file of the embedded vector database."""
    check = "vector database embedded"
    if not path.exists():
        return ok(check, "its file is not there yet; the first start makes it")
    try:
        with closing(connect_read_only(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        return fail(check, f"{path.name!r} in data_dir cannot be read: {error}", "restore it from a backup")
    if version > SCHEMA_VERSION:
        detail = f"{path.name!r} has schema {version}, this release knows {SCHEMA_VERSION}"
        return fail(check, detail, "run the release that wrote it, or restore a backup")
    return ok(check, "its file can be read")


async def temporal(service: Service, settings: Settings) -> list[Finding]:
    """The cluster, the namespace, and whether workers wait on the queue; nothing for the embedded engine."""
    check, client, queue = "temporal", service.temporal, settings.temporal.task_queue
    if client is None:
        return []
    try:
        await client.check()
        workers = await client.workers(queue)
    except (NotPlaced, CallError) as error:
        return [fail(check, str(error), "check temporal.address; runs are accepted and wait meanwhile")]
    found = ok(check, f"{settings.temporal.address} has the namespace {settings.temporal.namespace!r}")
    if not workers:
        advice = "start one: llm-orchestrator worker"
        return [found, warn("workers", f"no worker waits on the task queue {queue!r}", advice)]
    return [
        found,
        ok("workers", f"{len(workers)} asked the task queue {queue!r} for runs in the last minutes"),
    ]
