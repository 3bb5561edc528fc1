"""One API over an engine whose model answers at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.api.harness import Api, api


@pytest.fixture
async def service() -> AsyncIterator[Api]:
    async with api() as started:
        yield started


@pytest.fixture
def client(service: Api) -> httpx.AsyncClient:
    return service.client
