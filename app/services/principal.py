"""Who calls, and what their roles let them do. How a caller proves it does not belong here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Role = Literal["viewer", "executor", "developer", "admin"]


class Permission(StrEnum):
    """What an operation asks of its caller."""

    READ_RUNS = "runs:read"
    SUBMIT_RUNS = "runs:submit"
    CONTROL_RUNS = "runs:control"
    READ_WORKFLOWS = "workflows:read"
    WRITE_WORKFLOWS = "workflows:write"
    READ_SCHEDULES = "schedules:read"
    WRITE_SCHEDULES = "schedules:write"
    READ_WEBHOOKS = "webhooks:read"
    WRITE_WEBHOOKS = "webhooks:write"
    READ_PROVIDERS = "providers:read"


_VIEWER = frozenset(
    {
        Permission.READ_RUNS,
        Permission.READ_WORKFLOWS,
        Permission.READ_SCHEDULES,
        Permission.READ_WEBHOOKS,
        Permission.READ_PROVIDERS,
    }
)
_EXECUTOR = _VIEWER | {Permission.SUBMIT_RUNS, Permission.CONTROL_RUNS, Permission.WRITE_SCHEDULES}
_DEVELOPER = _EXECUTOR | {Permission.WRITE_WORKFLOWS, Permission.WRITE_WEBHOOKS}

GRANTS: Final[Mapping[Role, frozenset[Permission]]] = {
    "viewer": _VIEWER,
    "executor": _EXECUTOR,
    "developer": _DEVELOPER,
    "admin": frozenset(Permission),
}
"""Each role includes the one before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller. `tenant` owns whatever the caller creates and bounds whatever it sees."""

    tenant: str
    subject: str
    roles: frozenset[Role]

    def may(self, permission: Permission) -> bool:
        """Whether one of the roles grants it."""
        return any(permission in GRANTS[role] for role in self.roles)
