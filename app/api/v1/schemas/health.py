"""Probes on the wire."""

from __future__ import annotations

from typing import Literal

from app.api.v1.schemas.runs import ResponseModel


class Liveness(ResponseModel):
    """Whether the event loop turns."""

    status: Literal["ok", "stalled"]
    loop_lag_seconds: float


class CheckResult(ResponseModel):
    """One readiness check."""

    status: Literal["ok", "failed"]
    detail: str | None
    seconds: float


class Readiness(ResponseModel):
    """Whether the process should get traffic, check by check."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, CheckResult]
