"""HTTP metrics: the series of the library's own middleware, and nothing a caller can blow up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator

from app.observability.http_metrics import instrument
from app.observability.metrics import Metrics

UNTIMED = ("_count", "_total", "size_bytes_sum")


def make_app() -> FastAPI:
    app = FastAPI()
    router = APIRouter(prefix="/v1/runs")

    @router.get("/{run_id}")
    async def read(run_id: str) -> dict[str, str]:
        return {"id": run_id}

    @router.post("")
    async def submit(body: dict[str, str]) -> dict[str, str]:
        return body

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("broken")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "a"
            yield "b"

        return StreamingResponse(parts())

    app.include_router(router)
    return app


async def use(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.get("/v1/runs/1")
        await client.get("/v1/runs/2?x=1")
        await client.post("/v1/runs", json={"a": "b"})
        await client.post("/v1/runs", content=b"{")
        await client.delete("/v1/runs/3")
        await client.get("/nowhere/at/all")
        await client.get("/fails")
        await client.get("/stream")


def untimed(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith("http_") and sample.name.endswith(UNTIMED)
    }


def shapes(registry: CollectorRegistry) -> list[tuple[str, str, str, set[tuple[object, ...]]]]:
    """Everything of the families but values, and creation times, which the library can also leave out."""
    return [
        (
            family.name,
            family.type,
            family.documentation,
            {
                (sample.name, *sorted(sample.labels.items()))
                for sample in family.samples
                if not sample.name.endswith("_created")
            },
        )
        for family in registry.collect()
        if family.name.startswith("http_")
    ]


async def test_an_invented_method_is_counted_as_other() -> None:
    app, metrics = make_app(), Metrics()
    instrument(app, metrics)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for number in range(50):
            await client.request(f"X{number}", "/v1/runs/1")
    methods = {dict(labels).get("method") for _, labels in untimed(metrics.registry)}
    assert methods - {None} == {"other"}


async def test_paths_that_no_route_matches_share_one_handler() -> None:
    app, metrics = make_app(), Metrics()
    instrument(app, metrics)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for number in range(50):
            await client.get(f"/guess/{number}")
    handlers = {dict(labels).get("handler") for _, labels in untimed(metrics.registry)}
    assert handlers - {None} == {"none"}


async def test_it_counts_exactly_what_the_librarys_own_middleware_counts() -> None:
    ours, metrics = make_app(), Metrics()
    instrument(ours, metrics)
    stock, registry = make_app(), CollectorRegistry()
    Instrumentator(registry=registry).instrument(stock)
    await use(ours)
    await use(stock)
    assert untimed(metrics.registry) == untimed(registry)


async def test_its_families_look_like_the_librarys_own() -> None:
    ours, metrics = make_app(), Metrics()
    instrument(ours, metrics)
    stock, registry = make_app(), CollectorRegistry()
    Instrumentator(registry=registry).instrument(stock)
    await use(ours)
    await use(stock)
    assert shapes(metrics.registry) == shapes(registry)


async def test_an_absurd_content_length_does_not_break_the_request() -> None:
    app, metrics = make_app(), Metrics()
    instrument(app, metrics)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for value in ("9" * 5000, "-1", "x", ""):
            answer = await client.get("/v1/runs/1", headers={"content-length": value})
            assert answer.status_code == 200
    sums = [
        value
        for (name, _), value in untimed(metrics.registry).items()
        if name == "http_request_size_bytes_sum"
    ]
    assert sums == [0]


async def test_the_error_of_the_app_reaches_the_caller_unchanged() -> None:
    app, metrics = make_app(), Metrics()
    instrument(app, metrics)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        with pytest.raises(RuntimeError, match="broken"):
            await client.get("/fails")
