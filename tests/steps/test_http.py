"""The `http` kind."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.dsl.catalog import Catalog
from app.ports.errors import PermanentError, TemporaryError
from app.ports.http import HttpRequest, HttpResponse
from app.ports.steps import StepOutcome
from app.steps.http import HttpConfig, HttpKind
from app.steps.kind import RENDERED
from tests.steps.fakes import CALL, FakeHttp, FakeServices, run

GET = {"url": "https://api.example.com/v1/things"}
POST = {**GET, "method": "POST"}


def answer(status: int = 200, content: bytes = b"", **headers: str) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status=status, headers=named, content=content)


async def sent(
    document: dict[str, Any], response: HttpResponse | None = None
) -> tuple[StepOutcome, HttpRequest]:
    client = FakeHttp(response or answer())
    outcome = await run(HttpKind(), document, FakeServices(http=client))
    return outcome, client.requests[0]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "/path",
        "ftp://example.com",
        "file:///etc/passwd",
        "unix:/socket",
        "http://",
        "http://[::1",
        "http://host:99999",
        "http://user:secret@host/",
        "http://host/a b",
        "http://host/\r\nX: y",
        "http://host/" + "x" * 9_000,
        None,
        5,
    ],
)
def test_what_is_no_plain_http_url_is_refused_before_and_after_rendering(url: object) -> None:
    for context in (None, RENDERED):
        with pytest.raises(ValidationError):
            HttpConfig.model_validate({"url": url}, context=context)


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nEvil: 1"},
        {"X": "a\nb"},
        {"X": "a\x00b"},
        {"X": "ü"},
        {"X": []},
        {"X\r\nEvil": "1"},
        {"X Y": "1"},
        {"": "1"},
        {"Host": "internal"},
        {"content-length": "5"},
        {"Transfer-Encoding": "chunked"},
    ],
)
def test_headers_that_break_out_or_belong_to_the_client_are_refused(headers: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HttpConfig.model_validate({**GET, "headers": headers}, context=RENDERED)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "BREW"},
        {"json": {}, "body": "x", "method": "POST"},
        {"json": {}},
        {"body": "x", "method": "head"},
        {"body": {}, "method": "POST"},
        {"query": {"a": {"b": 1}}},
        {"query": "a=1"},
        {"expect": {"status": 99}},
        {"expect": {"status": "20x"}},
        {"expect": {"status": []}},
        {"expect": {"status": True}},
        {"expect": {"code": 200}},
        {"idempotency_key": ""},
        {"idempotency_key": "a\nb"},
        {"idempotency_key": None},
        {"timeout": 5},
    ],
)
def test_a_wrong_request_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HttpConfig.model_validate({**GET, **changes})


def test_templates_stand_for_any_value_in_a_document() -> None:
    HttpConfig.model_validate(
        {
            "url": "{{ inputs.url }}",
            "method": "{{ inputs.method }}",
            "headers": {"X": "{{ inputs.x }}\n"},
            "json": {"a": "{{ inputs.a }}"},
            "expect": {"status": "{{ inputs.status }}"},
            "idempotency_key": "{{ run.id }}",
        }
    )


@pytest.mark.parametrize(
    ("document", "repeatable"),
    [
        (POST, False),
        ({**GET, "method": "PATCH"}, False),
        ({**GET, "method": "{{ inputs.method }}"}, False),
        ({**POST, "idempotency_key": False}, False),
        (GET, True),
        ({**GET, "method": "delete"}, True),
        ({**GET, "method": "PUT"}, True),
        ({**POST, "idempotency_key": True}, True),
        ({**POST, "idempotency_key": "{{ run.id }}"}, True),
    ],
)
def test_only_what_the_callee_sees_once_is_repeatable(document: dict[str, Any], repeatable: bool) -> None:
    assert HttpKind().repeatable(HttpConfig.model_validate(document)) is repeatable


@pytest.mark.parametrize("key", [False, None, "", "  "])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_key_that_its_template_left_empty_fails_the_step_before_anything_is_sent(
    method: str, key: object
) -> None:
    client = FakeHttp(answer())
    with pytest.raises(ValidationError, match=r"came out empty.*remove 'idempotency_key'"):
        await run(HttpKind(), {**GET, "method": method, "idempotency_key": key}, FakeServices(http=client))
    assert client.requests == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_method_that_needs_no_key_goes_without(method: str) -> None:
    _, request = await sent({**GET, "method": method, "idempotency_key": False})
    assert "Idempotency-Key" not in request.headers


def test_no_key_may_be_asked_for_by_false() -> None:
    catalog = Catalog({"http": HttpKind()})
    step = {**POST, "id": "a", "type": "http", "idempotency_key": False}
    compiled = catalog.compile({"name": "x", "steps": [step]})
    assert "idempotency_key" not in compiled.steps["a"].config.assemble(())
    assert not compiled.plan.main.by_id["a"].repeatable


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (301, "invalid_request"),
        (304, "invalid_request"),
        (400, "invalid_request"),
        (401, "authentication"),
        (403, "permission"),
        (404, "not_found"),
        (410, "not_found"),
        (413, "too_large"),
        (422, "invalid_request"),
    ],
)
async def test_the_callers_mistakes_are_permanent(status: int, error_class: str) -> None:
    with pytest.raises(PermanentError, match=rf"GET 'api.example.com' answered {status}") as raised:
        await sent(GET, answer(status))
    assert (raised.value.error_class, raised.value.status) == (error_class, status)


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (408, "timeout"),
        (425, "server_error"),
        (429, "rate_limit"),
        (500, "server_error"),
        (503, "server_error"),
        (504, "timeout"),
        (599, "server_error"),
    ],
)
async def test_the_callees_troubles_are_temporary(status: int, error_class: str) -> None:
    with pytest.raises(TemporaryError) as raised:
        await sent(GET, answer(status, retry_after="7"))
    assert (raised.value.error_class, raised.value.retry_after) == (error_class, 7)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "soon"}, None),
        ({}, None),
        ({"retry-after": "99999999"}, 3600),
        ({"retry-after": "Sun, 01 Jun 2025 12:00:20 GMT", "date": "Sun, 01 Jun 2025 12:00:00 GMT"}, 20),
        ({"retry-after": "Sun, 01 Jun 2025 12:00:20 GMT"}, 0),
    ],
)
async def test_a_retry_date_is_read_on_the_callees_own_clock(
    headers: dict[str, str], seconds: object
) -> None:
    with pytest.raises(TemporaryError) as raised:
        await sent(GET, HttpResponse(status=503, headers=headers, content=b""))
    assert raised.value.retry_after == seconds


async def test_an_error_shows_neither_path_nor_query() -> None:
    document = {"url": "https://api.example.com/secret-path?key=secret-key", "query": {"q": "secret-q"}}
    with pytest.raises(PermanentError) as raised:
        await sent(document, answer(400, b"secret-body"))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("expected", "status", "accepted"),
    [
        (201, 200, False),
        ([200, 404], 403, False),
        ("3xx", 200, False),
        (404, 404, True),
        (["2xx", 404], 404, True),
        (["2xx", 404], 204, True),
        ("5xx", 503, True),
    ],
)
async def test_expect_says_what_success_is(expected: Any, status: int, accepted: bool) -> None:
    document = {**GET, "expect": {"status": expected}}
    if accepted:
        outcome, _ = await sent(document, answer(status))
        assert outcome.outputs["status"] == status
    else:
        with pytest.raises(PermanentError):
            await sent(document, answer(status))


async def test_the_clients_errors_pass_unchanged() -> None:
    failure = PermanentError("egress_denied", "no")
    with pytest.raises(PermanentError) as raised:
        await run(HttpKind(), GET, FakeServices(http=FakeHttp(failure)))
    assert raised.value is failure


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (POST, None),
        ({**GET, "idempotency_key": True}, None),
        ({**POST, "idempotency_key": True}, CALL.idempotency_key),
        ({**GET, "method": "patch", "idempotency_key": "order-7"}, "order-7"),
    ],
)
async def test_the_idempotency_key_goes_with_methods_that_need_one(
    document: dict[str, Any], key: str | None
) -> None:
    _, request = await sent(document)

    assert request.headers.get("Idempotency-Key") == key


async def test_an_idempotency_header_of_the_author_is_not_doubled() -> None:
    _, request = await sent({**POST, "idempotency_key": True, "headers": {"idempotency-key": "mine"}})

    assert request.headers == {"idempotency-key": "mine"}


async def test_a_body_that_cannot_be_json_fails_for_good() -> None:
    with pytest.raises(PermanentError, match="cannot be encoded"):
        await sent({**POST, "json": {"n": 10**40}})


@pytest.mark.parametrize(
    ("changes", "content", "content_type"),
    [
        ({}, None, None),
        ({"json": {"a": [1, None, "ü"]}}, '{"a":[1,null,"ü"]}'.encode(), "application/json"),
        ({"json": None}, b"null", "application/json"),
        ({"body": "hü"}, "hü".encode(), "text/plain; charset=utf-8"),
        ({"body": 5}, b"5", "text/plain; charset=utf-8"),
    ],
)
async def test_bodies_are_sent_as_what_they_are(
    changes: dict[str, Any], content: bytes | None, content_type: str | None
) -> None:
    _, request = await sent({**POST, **changes})

    assert request.content == content
    assert request.headers.get("Content-Type") == content_type
    assert request.timeout_seconds == CALL.timeout_seconds


async def test_the_authors_content_type_wins() -> None:
    _, request = await sent({**POST, "body": "<a/>", "headers": {"content-type": "application/xml"}})

    assert request.headers == {"content-type": "application/xml"}


@pytest.mark.parametrize(
    ("url", "sent_to"),
    [
        ("https://h/p", "https://h/p?q=a+b%26c&n=1&n=2&t=true"),
        ("https://h/p?x=1#top", "https://h/p?x=1&q=a+b%26c&n=1&n=2&t=true#top"),
    ],
)
async def test_query_values_are_encoded_and_nulls_left_out(url: str, sent_to: str) -> None:
    _, request = await sent({"url": url, "query": {"q": "a b&c", "n": [1, 2, None], "t": True, "none": None}})

    assert request.url == sent_to


async def test_json_that_is_none_fails_for_good() -> None:
    with pytest.raises(PermanentError, match="claims to be JSON") as raised:
        await sent(GET, answer(200, b"{oops", content_type="application/json"))
    assert raised.value.error_class == "invalid_output"


@pytest.mark.parametrize(
    ("content_type", "content", "body"),
    [
        ("application/json", b"", None),
        ("application/json; charset=utf-8", b'{"a": 1}', {"a": 1}),
        ("application/problem+json", b"[1]", [1]),
        ("text/plain", "hü".encode(), "hü"),
        ("text/plain; charset=latin-1", "hü".encode("latin-1"), "hü"),
        ("text/html;charset=nonsense", b"\x00", {"base64": "AA=="}),
        ("text/plain; charset=punycode", b"a-b", {"base64": "YS1i"}),
        ("text/plain; charset=unicode_escape", b"a", {"base64": "YQ=="}),
        ("text/plain; charset=hex", b"61", {"base64": "NjE="}),
        (f"text/plain; charset={'x' * 100_000}", b"a", {"base64": "YQ=="}),
        ('text/plain; charset="Shift_JIS"', "猫".encode("shift_jis"), "猫"),
        ("text/plain; charset=windows-1252", b"\x80", "€"),
        ("text/plain; charset=UTF-16", "hü".encode("utf-16"), "hü"),
        ("text/plain", b"\xff", {"base64": "/w=="}),
        ("application/xml", b"<a/>", "<a/>"),
        ("", b"hi", "hi"),
        ("", b"\xff", {"base64": "/w=="}),
        ("image/png", b"\x89PNG", {"base64": "iVBORw=="}),
    ],
)
async def test_bodies_become_json_values(content_type: str, content: bytes, body: object) -> None:
    outcome, _ = await sent(GET, answer(200, content, content_type=content_type))

    assert outcome.outputs["body"] == body


async def test_headers_are_outputs_except_those_that_carry_credentials() -> None:
    outcome, _ = await sent(GET, answer(200, set_cookie="session=1", etag="x"))

    assert outcome.outputs["headers"] == {"etag": "x"}
    assert tuple(outcome.outputs) == HttpKind.outputs
