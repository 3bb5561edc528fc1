"""Who calls, as dependencies: a permission is a named parameter of the handler that needs it.

Every caller of this version is the local operator. What does not belong here: what roles grant.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from app.services.errors import PermissionDenied
from app.services.principal import Permission, Principal


class Requires:
    """A dependency that gives the caller if it holds a permission, and refuses it if not."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> Principal:
        """The caller. Raises `PermissionDenied`."""
        principal: Principal = request.app.state.principal
        if not principal.may(self.permission):
            raise PermissionDenied(f"{principal.subject!r} lacks the permission {self.permission.value!r}")
        return principal


CanReadRuns = Annotated[Principal, Depends(Requires(Permission.READ_RUNS))]
CanSubmitRuns = Annotated[Principal, Depends(Requires(Permission.SUBMIT_RUNS))]
CanControlRuns = Annotated[Principal, Depends(Requires(Permission.CONTROL_RUNS))]
CanReadWorkflows = Annotated[Principal, Depends(Requires(Permission.READ_WORKFLOWS))]
CanWriteWorkflows = Annotated[Principal, Depends(Requires(Permission.WRITE_WORKFLOWS))]
CanReadSchedules = Annotated[Principal, Depends(Requires(Permission.READ_SCHEDULES))]
CanWriteSchedules = Annotated[Principal, Depends(Requires(Permission.WRITE_SCHEDULES))]
CanReadWebhooks = Annotated[Principal, Depends(Requires(Permission.READ_WEBHOOKS))]
CanWriteWebhooks = Annotated[Principal, Depends(Requires(Permission.WRITE_WEBHOOKS))]
CanReadProviders = Annotated[Principal, Depends(Requires(Permission.READ_PROVIDERS))]
