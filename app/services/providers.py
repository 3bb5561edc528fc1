"""What the operator configured and how it fares: instances of model vendors, and vector databases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.ports.provider_status import ProviderStatus, ProviderStatuses
from app.services.configured import Configured


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderView:
    """An instance. `keyless`: its vendor answers nobody without a key, and it has none."""

    status: ProviderStatus
    keyless: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderOverview:
    """All there is, by name."""

    models: Sequence[ProviderView]
    databases: Sequence[ProviderStatus]


class ProviderService:
    """Reads the state of this process; other processes have limits and breakers of their own."""

    def __init__(self, statuses: ProviderStatuses, configured: Configured) -> None:
        self._statuses = statuses
        self._keyless = configured.keyless

    def overview(self) -> ProviderOverview:
        """How everything is at this moment."""
        return ProviderOverview(
            models=[
                ProviderView(status=status, keyless=status.name in self._keyless)
                for status in self._statuses.models()
            ],
            databases=self._statuses.databases(),
        )
