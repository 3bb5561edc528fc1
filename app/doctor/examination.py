"""Examines an installation from its settings on, the nearest things first. Changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from app.bootstrap import VECTORS_FILE, Service, build
from app.configuration import instance_config, redactor
from app.doctor import callees
from app.doctor.findings import Finding, cleaned, fail, ok, warn
from app.doctor.machine import data_directory, extras, template_workers
from app.doctor.store import store
from app.providers.prices import keyless
from app.providers.transport import Transport
from app.settings import Settings, environment
from app.settings_sources import CONFIG_VARIABLE


async def examine(settings: Settings) -> list[Finding]:
    """Every finding, without secrets. Takes a few seconds where something does not answer."""
    findings = [*_configuration(settings)]
    try:
        service = build(settings)
    except ValueError as error:
        service = None
        findings.append(fail("configuration", str(error)))
    findings += data_directory(settings.data_dir, vectors_file=VECTORS_FILE)
    findings += extras(settings)
    findings += await store(settings)
    if service is not None:
        try:
            findings += await _outside(service, settings)
        finally:
            await _let_go(service)
    return cleaned(findings, redactor(settings).text)


def settings_refused(reason: str) -> list[Finding]:
    """What there is to say of settings that cannot be used."""
    return [fail("configuration", reason, "nothing else was checked")]


def _configuration(settings: Settings) -> Iterator[Finding]:
    check, file = "configuration", environment().get(CONFIG_VARIABLE)
    source = f"the environment and the file {Path(file).name!r}" if file else "the environment"
    yield ok(check, f"the settings of {source} are valid; engine {settings.engine!r}")
    if not settings.server.is_loopback:
        detail = f"server.host {settings.server.host!r} is open and this version has no authentication"
        yield warn("access", detail, "see that the network in front of it decides who may call")


async def _outside(service: Service, settings: Settings) -> list[Finding]:
    instances = [instance_config(name, it) for name, it in settings.all_providers().items()]
    transport = Transport.over_sockets()
    try:
        workers, providers, databases, temporal = await asyncio.gather(
            template_workers(service.renderer),
            callees.providers(settings, keyless=keyless(instances), transport=transport),
            callees.databases(service.databases),
            callees.temporal(service, settings),
        )
    finally:
        await transport.aclose()
    vectors = await asyncio.to_thread(callees.embedded_vectors, settings.data_dir / VECTORS_FILE)
    return [workers, *temporal, *providers, vectors, *databases]


async def _let_go(service: Service) -> None:
    """What an examination opened; the service itself was never started."""
    await service.providers.aclose()
    await service.renderer.close()
    for database in service.databases:
        await database.aclose()
    await asyncio.to_thread(service.tracer.close)
