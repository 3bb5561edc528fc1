"""A body that is too large, over real sockets: whoever sends it gets to read why."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest

from tests.api.served import served

LIMIT = 10_000
BODY = b" " * 8_000_000
"""More than the buffers of both ends take."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(max_body_bytes=LIMIT) as base:
        yield base


def test_a_client_that_sends_all_before_it_reads_gets_the_refusal(url: str) -> None:
    request = urllib.request.Request(  # noqa: S310  an address of this test
        f"{url}/v1/runs", data=BODY, headers={"content-type": "application/json"}
    )
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310  the same
    with caught.value as answer:
        assert answer.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        assert json.load(answer)["code"] == "content_too_large"


@pytest.mark.parametrize("chunked", [False, True])
def test_the_connection_stays_of_use(url: str, chunked: bool) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    body = (BODY[start : start + 65_536] for start in range(0, len(BODY), 65_536)) if chunked else BODY
    headers = {"content-type": "application/json"}
    connection.request("POST", "/v1/runs", body=body, headers=headers, encode_chunked=chunked)
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["code"]) == (413, "content_too_large")
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_client_that_asks_first_is_answered_at_once(url: str) -> None:
    address = urlsplit(url)
    head = (
        f"POST /v1/runs HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=10) as raw:
        raw.sendall(head.encode())
        assert raw.recv(65_536).startswith(b"HTTP/1.1 413 ")
