"""What the store says of itself: can it be used, is its schema this release's, does anybody execute."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from app.doctor.findings import Finding, fail, ok, warn
from app.ports.errors import StoreError
from app.settings import Settings
from app.storage import NO_DRIVER
from app.stores.inspection import StoreState
from app.stores.sql import inspection as sqlite
from app.stores.sql.schema import SCHEMA_VERSION

SKEW_SECONDS: Final = 1.0
TOO_MUCH_SKEW_SECONDS: Final = 30.0
SLOW_SECONDS: Final = 0.05
PROCESS_CONNECTIONS: Final = 3
"""Of one process, beside those that read: one writes, one listens, one holds the lock."""


async def store(settings: Settings) -> list[Finding]:
    """All that there is to say."""
    try:
        state = await _look(settings)
    except (StoreError, ValueError) as error:
        return [fail("store", str(error))]
    if state is None:
        return [ok("store", "a SQLite file in data_dir; it is not there yet, the first start makes it")]
    findings = [_reached(state), _schema(state, settings)]
    if state.server is not None:
        findings += _server(state, settings)
    if state.schema_version is not None:
        findings.append(_executor(state))
    return findings


async def _look(settings: Settings) -> StoreState | None:
    url = settings.store.url
    if url is None:
        return await asyncio.to_thread(sqlite.inspect, settings.data_dir)
    try:
        from app.stores.postgresql.connection import Address  # noqa: PLC0415  an optional package
        from app.stores.postgresql.inspection import inspect  # noqa: PLC0415  as above
    except ImportError as error:
        raise ValueError(NO_DRIVER) from error
    address = Address(
        url=url.get_secret_value(), statement_timeout_seconds=settings.store.statement_timeout_seconds
    )
    return await inspect(address)


def _reached(state: StoreState) -> Finding:
    if state.server is None:
        return ok("store", "a SQLite file in data_dir, which can be read")
    detail = f"{state.server} answers within {state.round_trip * 1000:.1f} ms"
    if state.read_only:
        return fail("store", f"{detail} and takes no writes", "name the primary in store.url")
    if state.round_trip > SLOW_SECONDS:
        return warn("store", detail, "every step waits for it: run the service nearer to it")
    return ok("store", detail)


def _schema(state: StoreState, settings: Settings) -> Finding:
    check, found = "schema", state.schema_version
    where = "data_dir" if settings.store.url is None else "store.url"
    if found is None:
        if state.foreign:
            return fail(
                check, "the database holds tables of another program", f"name an empty one in {where}"
            )
        return ok(check, "the database is empty; the first start makes the tables")
    if found > SCHEMA_VERSION:
        detail = f"version {found} is of a newer release, this one knows {SCHEMA_VERSION}"
        return fail(check, detail, "run that release, or restore a backup")
    if found < SCHEMA_VERSION:
        detail = f"version {found} is of an earlier release, this one has {SCHEMA_VERSION}"
        advice = "stop the earlier release, take a backup, then run `llm-orchestrator migrate`"
        return fail(check, detail, advice)
    return ok(check, f"version {found} is this release's")


def _server(state: StoreState, settings: Settings) -> Iterator[Finding]:
    yield _clock(state)
    wanted = settings.store.pool_size + PROCESS_CONNECTIONS
    detail = (
        f"{state.connections} of {state.max_connections} connections are in use, a process takes {wanted}"
    )
    if state.max_connections - state.connections < wanted:
        yield warn("connections", detail, "raise max_connections there, or lower store.pool_size")
    else:
        yield ok("connections", detail)
    if state.relaxed:
        detail = f"{' and '.join(state.relaxed)} off: a crash of the server loses what it confirmed"
        yield warn("durability", detail, "turn it on in the server's configuration")


def _clock(state: StoreState) -> Finding:
    ahead, check = state.clock_ahead, "clock"
    detail = (
        f"the server's clock is {abs(ahead):.2f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    )
    advice = "keep both in time with NTP: timers and schedules go by this machine's clock"
    uncertain = state.round_trip / 2
    if abs(ahead) - uncertain > TOO_MUCH_SKEW_SECONDS:
        return fail(check, detail, advice)
    if abs(ahead) - uncertain > SKEW_SECONDS:
        return warn(check, detail, advice)
    return ok(check, detail)


def _executor(state: StoreState) -> Finding:
    check, waiting = "executor", f"{state.unfinished} runs have not ended"
    if state.executing:
        return ok(check, f"a process executes, another one would stand by; {waiting}")
    if state.unfinished:
        return warn(check, f"{waiting} and no process executes", "start one: llm-orchestrator serve")
    return ok(check, "no process executes now, and no run waits for one")
