"""HTTP for documents: the policy at every hop, and what does not cross an origin."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from app.ports.errors import PermanentError, TemporaryError
from app.ports.http import HttpRequest
from app.providers.checked_http import CheckedHttp, OperatorHttp
from app.providers.transport import Transport
from app.security.egress import EgressPolicy
from tests.simulator.process import Simulator

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
async def strict() -> AsyncIterator[CheckedHttp]:
    """Under the default policy, over real sockets."""
    transport = Transport.over_sockets(EgressPolicy())
    yield CheckedHttp(transport, EgressPolicy())
    await transport.aclose()


@pytest.fixture
async def lenient() -> AsyncIterator[CheckedHttp]:
    """With loopback allowed, over real sockets."""
    policy = EgressPolicy(allow_private=True)
    transport = Transport.over_sockets(policy)
    yield CheckedHttp(transport, policy)
    await transport.aclose()


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """A listener that must see nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def mocked(handler: Handler, policy: EgressPolicy | None = None) -> CheckedHttp:
    return CheckedHttp(Transport.over_httpx(httpx.MockTransport(handler)), policy or EgressPolicy())


def saw_somebody(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://127.1:{port}/",
        "http://017700000001:{port}/",
        "http://\uff11\uff12\uff17.0.0.1:{port}/",
        "http://127\u30020.0.1:{port}/",
        "http://LOCALHOST:{port}/",
    ],
)
async def test_a_listener_inside_sees_nothing(strict: CheckedHttp, canary: socket.socket, url: str) -> None:
    with pytest.raises((PermanentError, TemporaryError)) as refused:
        await strict.send(HttpRequest(method="GET", url=url.format(port=canary.getsockname()[1])))
    assert refused.value.error_class in {"egress_denied", "invalid_request", "connection"}
    assert not saw_somebody(canary)


async def test_the_socket_is_the_last_to_refuse(canary: socket.socket) -> None:
    guarded = Transport.over_sockets(EgressPolicy())
    careless = CheckedHttp(guarded, EgressPolicy(allow_private=True))
    with pytest.raises(PermanentError) as refused:
        await careless.send(HttpRequest(method="GET", url=f"http://127.0.0.1:{canary.getsockname()[1]}/"))
    assert refused.value.error_class == "egress_denied"
    assert not saw_somebody(canary)
    await guarded.aclose()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_inside_is_denied(status: int) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"location": "http://169.254.169.254/latest/meta-data"})

    with pytest.raises(PermanentError) as refused:
        await mocked(handler).send(HttpRequest(method="GET", url="https://api.example.com/"))
    assert refused.value.error_class == "egress_denied"


@pytest.mark.parametrize(
    ("location", "error_class"),
    [
        ("http://api.example.com/", "egress_denied"),
        ("file:///etc/passwd", "egress_denied"),
        ("https://other.example.com/", "egress_denied"),
        ("https://user:pw@api.example.com/", "invalid_request"),
        ("https://[::1", "invalid_request"),
    ],
)
async def test_a_redirect_out_of_bounds_is_refused(location: str, error_class: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": location})

    client = mocked(handler, EgressPolicy(allowed_hosts=("api.example.com",)))
    with pytest.raises(PermanentError) as refused:
        await client.send(HttpRequest(method="GET", url="https://api.example.com/"))
    assert refused.value.error_class == error_class


async def test_a_loop_of_redirects_ends() -> None:
    hops: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        hops.append(request.url.path)
        return httpx.Response(302, headers={"location": f"/{len(hops)}"})

    with pytest.raises(PermanentError, match="more than 5 times"):
        await mocked(handler).send(HttpRequest(method="GET", url="https://api.example.com/0"))
    assert hops == ["/0", "/1", "/2", "/3", "/4", "/5"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "inside"},
        {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"Proxy-Authorization": "x"},
        {"X-A": "b\r\nHost: inside"},
        {"X A": "b"},
        {"X-A": "caf\u00e9"},
    ],
)
async def test_headers_that_smuggle_are_refused(headers: dict[str, str]) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError("it must not be sent")

    with pytest.raises(PermanentError) as refused:
        await mocked(handler).send(HttpRequest(method="GET", url="https://api.example.com/", headers=headers))
    assert refused.value.error_class == "invalid_request"


async def test_a_method_must_be_a_token() -> None:
    with pytest.raises(PermanentError, match="not an HTTP method"):
        await mocked(lambda request: httpx.Response(200)).send(
            HttpRequest(method="GET / HTTP/1.1\r\nX:", url="https://api.example.com/")
        )


async def test_secrets_stay_with_their_origin() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.host == "api.example.com":
            return httpx.Response(307, headers={"location": "https://other.example.com/x"})
        return httpx.Response(200)

    secrets = {"Authorization": "Bearer s", "Cookie": "s", "X-Api-Key": "s", "Accept": "text/plain"}
    await mocked(handler).send(HttpRequest(method="GET", url="https://api.example.com/", headers=secrets))
    assert [request.headers.get("x-api-key") for request in seen] == ["s", None]
    assert set(seen[1].headers) == {"host", "accept", "accept-encoding", "user-agent"}
    assert seen[1].headers["accept"] == "text/plain"


async def test_headers_go_along_within_an_origin() -> None:
    seen: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        moved = httpx.Response(302, headers={"location": "https://api.example.com:443/new"})
        return moved if request.url.path == "/" else httpx.Response(200)

    await mocked(handler).send(
        HttpRequest(method="GET", url="https://api.example.com/", headers={"Authorization": "Bearer s"})
    )
    assert seen == ["Bearer s", "Bearer s"]


@pytest.mark.parametrize(
    ("status", "method", "content"),
    [(303, "GET", b""), (302, "GET", b""), (307, "POST", b"x"), (308, "POST", b"x")],
)
async def test_a_redirect_keeps_the_body_only_where_it_says_so(
    status: int, method: str, content: bytes
) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        moved = httpx.Response(status, headers={"location": "/new"})
        return moved if request.url.path == "/" else httpx.Response(200)

    await mocked(handler).send(
        HttpRequest(
            method="POST",
            url="https://api.example.com/",
            content=b"x",
            headers={"content-type": "text/plain"},
        )
    )
    assert (seen[1].method, seen[1].content) == (method, content)
    assert ("content-type" in seen[1].headers) is (method == "POST")


async def test_the_time_of_all_hops_counts_together() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.06)
        return httpx.Response(302, headers={"location": "/again"})

    client = CheckedHttp(Transport.over_httpx(httpx.MockTransport(handler)), EgressPolicy())
    with pytest.raises(TemporaryError) as failed:
        await client.send(HttpRequest(method="GET", url="https://api.example.com/", timeout_seconds=0.15))
    assert failed.value.error_class == "timeout"


async def test_a_redirect_without_a_location_is_an_answer() -> None:
    client = mocked(lambda request: httpx.Response(302))
    assert (await client.send(HttpRequest(method="GET", url="https://api.example.com/"))).status == 302


async def test_an_allowed_server_is_asked_and_redirects_are_followed(
    simulator: Simulator, lenient: CheckedHttp
) -> None:
    url = f"{simulator.url}/redirect?status=307&to={simulator.url}/hook/x"
    answer = await lenient.send(HttpRequest(method="POST", url=url, content=b'{"a": 1}'))
    assert (answer.status, answer.content) == (200, b'{"ok": true}')
    hook = simulator.stats().hooks[0]
    assert (hook["method"], hook["path"], hook["body"]) == ("POST", "/hook/x", '{"a": 1}')
    assert hook["headers"]["host"] == f"127.0.0.1:{simulator.port}"


async def test_a_checked_name_is_connected_to_under_its_own_name(
    simulator: Simulator, lenient: CheckedHttp
) -> None:
    await lenient.send(HttpRequest(method="GET", url=f"http://localhost:{simulator.port}/hook"))
    assert simulator.stats().hooks[0]["headers"]["host"] == f"localhost:{simulator.port}"


async def test_the_operators_own_url_is_not_subject_to_the_policy(
    simulator: Simulator, transport: Transport
) -> None:
    webhook = f"{simulator.url}/hook"
    request = HttpRequest(method="POST", url=webhook, content=b"x")
    assert (await OperatorHttp(transport).send(request)).status == 200
    guarded = Transport.over_sockets(EgressPolicy())
    with pytest.raises(PermanentError, match="inside the network"):
        await CheckedHttp(guarded, EgressPolicy()).send(request)
    await guarded.aclose()
