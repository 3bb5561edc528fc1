"""The transport over real sockets, against a server that misbehaves in every way we know."""

from __future__ import annotations

import asyncio
import errno
import sys
import time
from typing import Any, cast

import aiohttp
import httpx
import orjson
import psutil
import pytest

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.providers.sockets import _translated
from app.providers.transport import Call, Transport
from tests.simulator.process import Simulator
from tests.stopwatch import Stopwatch


def chat(
    simulator: Simulator, model: str, *, timeout_seconds: float = 5.0, max_bytes: int = 1_000_000
) -> Call:
    return Call(
        method="POST",
        url=f"{simulator.base_url}/chat/completions",
        who="instance 'sim'",
        timeout_seconds=timeout_seconds,
        headers={"authorization": "Bearer canary-key", "idempotency-key": model},
        content=f'{{"model": "{model}", "messages": []}}'.encode(),
        max_bytes=max_bytes,
    )


@pytest.mark.parametrize(
    ("fault", "kind", "error_class"),
    [
        ("reset", TemporaryError, "connection"),
        ("reset_body", TemporaryError, "connection"),
        ("hang_up", TemporaryError, "connection"),
        ("short_body", TemporaryError, "connection"),
        ("stall", TemporaryError, "timeout"),
        ("stall_body", TemporaryError, "timeout"),
        ("drip", TemporaryError, "timeout"),
        ("not_http", TemporaryError, "server_error"),
        ("bad_gzip", TemporaryError, "server_error"),
        ("cut_gzip", TemporaryError, "server_error"),
        ("gzip_bomb", PermanentError, "too_large"),
    ],
)
async def test_a_misbehaving_server_is_classified_within_the_deadline(
    simulator: Simulator, transport: Transport, fault: str, kind: type[CallError], error_class: str
) -> None:
    with Stopwatch() as watch, pytest.raises(kind) as failed:
        await transport.exchange(chat(simulator, f"fault:{fault}", timeout_seconds=0.5))
    assert failed.value.error_class == error_class
    assert "'sim'" in str(failed.value)
    assert "canary-key" not in f"{failed.value!r} {failed.value}"
    assert watch.seconds < 2
    assert simulator.stats().calls == 1


@pytest.mark.parametrize("fault", ["stall_body", "drip", "short_body", "reset_body"])
async def test_a_failed_stream_is_closed_within_the_deadline(
    simulator: Simulator, transport: Transport, fault: str
) -> None:
    with pytest.raises(CallError):
        async with transport.stream(chat(simulator, f"fault:{fault}", timeout_seconds=0.5)) as answer:
            await answer.read()
    await asyncio.to_thread(simulator.wait, open_at_most=1)


async def test_a_stream_is_capped(simulator: Simulator, transport: Transport) -> None:
    async with transport.stream(chat(simulator, "fault:gzip_bomb")) as answer:
        with pytest.raises(PermanentError, match="larger than"):
            await answer.read()


async def test_a_bomb_does_not_fill_the_memory(simulator: Simulator, transport: Transport) -> None:
    process = psutil.Process()
    await transport.exchange(chat(simulator, "warm"))
    before = process.memory_info().rss
    for _ in range(5):
        with pytest.raises(PermanentError, match="larger than 1000000 bytes"):
            await transport.exchange(chat(simulator, "fault:gzip_bomb"))
    assert process.memory_info().rss - before < 30_000_000


async def test_nobody_listening_is_a_connection_error(transport: Transport, unused_tcp_port: int) -> None:
    call = Call(method="GET", url=f"http://127.0.0.1:{unused_tcp_port}/", who="host 'h'", timeout_seconds=5)
    with pytest.raises(TemporaryError, match="refused") as failed:
        await transport.exchange(call)
    assert failed.value.error_class == "connection"


async def test_a_name_that_does_not_resolve_is_a_connection_error(transport: Transport) -> None:
    call = Call(method="GET", url="http://nowhere.invalid/", who="host 'nowhere.invalid'", timeout_seconds=5)
    with pytest.raises(TemporaryError, match="does not resolve"):
        await transport.exchange(call)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1:{port}/hook", {"x": "a\r\nb: c"}),
        ("http://127.0.0.1:{port}/hook", {"x": "caf\u00e9 \u20ac"}),
        ("http://[::1", {}),
        ("ftp://127.0.0.1:{port}/hook", {}),
    ],
)
async def test_what_is_not_http_is_never_sent(
    simulator: Simulator, transport: Transport, url: str, headers: dict[str, str]
) -> None:
    url = url.format(port=simulator.port)
    with pytest.raises(PermanentError) as failed:
        await transport.exchange(
            Call(method="GET", url=url, who="host 'h'", timeout_seconds=5, headers=headers)
        )
    assert failed.value.error_class == "invalid_request"
    assert simulator.stats().calls == 0


async def test_a_request_is_never_sent_twice(simulator: Simulator, transport: Transport) -> None:
    get = Call(method="GET", url=f"{simulator.url}/hook", who="host 'h'", timeout_seconds=5)
    await transport.exchange(get)
    simulator.fail("/hook", "hang_up")
    with pytest.raises(TemporaryError, match="closed the connection"):
        await transport.exchange(get)
    assert simulator.stats().calls == 2


async def test_cancelling_closes_the_socket_at_once(simulator: Simulator, transport: Transport) -> None:
    task = asyncio.create_task(transport.exchange(chat(simulator, "fault:stall")))
    await asyncio.to_thread(simulator.wait, in_flight=1)
    cancelled_at = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stats = await asyncio.to_thread(simulator.wait, aborted=1)
    assert stats.aborted[0]["at"] - cancelled_at < 0.5
    assert stats.answered == 0


async def test_leaving_a_stream_closes_its_socket(simulator: Simulator, transport: Transport) -> None:
    async with transport.stream(chat(simulator, "fault:stall_body")) as answer:
        assert answer.status == 200
    await asyncio.to_thread(simulator.wait, aborted=1, open_at_most=1)


async def test_a_thousand_cancelled_calls_leak_no_connection(
    simulator: Simulator, transport: Transport
) -> None:
    for _ in range(10):
        tasks = [asyncio.create_task(transport.exchange(chat(simulator, "fault:stall"))) for _ in range(100)]
        await asyncio.to_thread(simulator.wait, in_flight=100)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    stats = await asyncio.to_thread(simulator.wait, aborted=1000, open_at_most=1)
    assert stats.in_flight == 0
    assert (await transport.exchange(chat(simulator, "fine"))).status == 200


async def test_cancelling_before_the_connection_is_made_leaks_nothing(
    simulator: Simulator, transport: Transport
) -> None:
    for _ in range(100):
        task = asyncio.create_task(transport.exchange(chat(simulator, "fine")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.to_thread(simulator.wait, open_at_most=2)


async def test_connections_are_used_again(simulator: Simulator, transport: Transport) -> None:
    for _ in range(5):
        assert (await transport.exchange(chat(simulator, "fine"))).status == 200
    assert simulator.stats().open_sockets == 2


async def test_any_status_is_an_answer(simulator: Simulator, transport: Transport) -> None:
    answer = await transport.exchange(chat(simulator, "fault:rate_limit"))
    assert answer.status == 429
    assert answer.headers["retry-after"] == "0"


async def test_redirects_are_answers_too(simulator: Simulator, transport: Transport) -> None:
    url = f"{simulator.url}/redirect?to={simulator.url}/hook"
    answer = await transport.exchange(Call(method="GET", url=url, who="host 'h'", timeout_seconds=5))
    assert answer.status == 302
    assert simulator.stats().calls == 0


async def test_the_environments_proxy_is_ignored(
    simulator: Simulator, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await transport.exchange(chat(simulator, "fine"))).status == 200


def test_a_handshake_that_is_given_up_is_told_as_one() -> None:
    given_up = ConnectionAbortedError("SSL handshake is taking longer than 60.0 seconds: aborting")
    key = cast("Any", None)  # only its message would look at it
    told = [
        str(_translated(aiohttp.ClientConnectorError(key, error)))
        for error in (given_up, ConnectionAbortedError(errno.ECONNABORTED, "aborted"))
    ]
    assert told == [
        "the TLS handshake took too long; the server may not speak TLS there",
        "it cannot be connected to",
    ]


async def test_cookies_are_not_kept() -> None:
    seen: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("cookie"))
        return httpx.Response(200, headers={"set-cookie": "a=b"})

    transport = Transport.over_httpx(httpx.MockTransport(handler))
    for _ in range(2):
        await transport.exchange(Call(method="GET", url="http://h.test/", who="h", timeout_seconds=5))
    assert seen == [None, None]


async def test_closing_lets_a_later_call_connect_anew(simulator: Simulator, transport: Transport) -> None:
    await transport.exchange(chat(simulator, "fine"))
    await transport.aclose()
    await asyncio.to_thread(simulator.wait, open_at_most=1)
    assert (await transport.exchange(chat(simulator, "fine"))).status == 200


async def test_warming_opens_the_pool_without_a_connection(
    simulator: Simulator, transport: Transport
) -> None:
    await transport.warm()
    assert simulator.stats().open_sockets == 1


async def test_the_http_libraries_are_not_loaded_with_the_registry() -> None:
    code = "import sys, app.providers.registry; sys.exit(any(m in sys.modules for m in ('httpx', 'aiohttp')))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_headers_that_are_not_utf_8_are_text_all_the_same(transport: Transport) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nX-Old: caf\xe9\r\nX-New: caf\xc3\xa9\r\nX-Both: \xff, \xc3\xa9\r\n"
        writer.write(head + b"Content-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        call = Call(method="POST", url=f"http://127.0.0.1:{port}/", who="h", timeout_seconds=5)
        got = await transport.exchange(call)
    assert got.headers["x-old"] == "café"
    assert got.headers["x-new"] == "café"
    orjson.dumps(dict(got.headers))
