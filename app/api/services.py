"""What the routes are given: the services of the process, and how to reach them from a request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from app.services.runs import RunService
from app.services.workflows import WorkflowService


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessCheck:
    """One thing that must hold for the process to get traffic.

    `check` returns a detail worth showing (or None), and raises `NotReady` if it does not hold.
    """

    name: str
    check: Callable[[], Awaitable[str | None]]


class NotReady(Exception):
    """A readiness check does not hold; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What the probes look at."""

    loop_lag_seconds: Callable[[], float]
    """Age of the event loop's last tick beyond its period."""
    checks: Sequence[ReadinessCheck] = ()
    exposition: Callable[[], tuple[bytes, str]]
    """The metrics and their content type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """Everything behind the routes. `closing` is set when the process begins to shut down."""

    runs: RunService
    workflows: WorkflowService
    probes: Probes
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self) -> None:
        """Begin to shut down: not ready, streams end, waiting callers get their 202."""
        self.closing.set()
        self.runs.stop_waiting()


async def _services(request: Request) -> ApiServices:
    services: ApiServices = request.app.state.services
    return services


Services = Annotated[ApiServices, Depends(_services)]
