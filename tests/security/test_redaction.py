"""Secrets do not survive the redactor, and what is no secret does."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.security.redaction import REDACTED, SHORTEST_SECRET, Redactor, is_secret_key

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "secret", ["s3cr3t-value", 'quo"ted\\and/slashed+', "umlaut-äöü-ß", "with space and %"]
)
def test_a_registered_value_is_removed_in_every_usual_encoding(secret: str) -> None:
    redactor = Redactor([secret])
    forms = [
        secret,
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="),
    ]
    for form in forms:
        assert redactor.text(f"before {form} after") == f"before {REDACTED} after"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abcdef123456", f"Authorization: Bearer {REDACTED}"),
        ("postgresql://user:hunter2@db:5432/x", f"postgresql://user:{REDACTED}@db:5432/x"),
        ("key sk-proj-0123456789abcdefXYZ was refused", f"key {REDACTED} was refused"),
        ("token eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl!", f"token {REDACTED}!"),
    ],
)
def test_what_looks_like_a_credential_is_removed_unregistered(text: str, clean: str) -> None:
    assert Redactor().text(text) == clean


@pytest.mark.parametrize(
    "text",
    ["a basic retrieval workflow", "send bearer authentication", "see http://host:8000/path", "task-force"],
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    "key",
    [
        "Authorization",
        "X-API-Key",
        "openai_api_key",
        "OPENAI_API_KEY",
        "client-secret",
        "Set-Cookie",
        "password",
    ],
)
def test_keys_that_name_a_credential_are_known(key: str) -> None:
    assert is_secret_key(key)
    assert Redactor().data({key: "value"}) == {key: REDACTED}


@pytest.mark.parametrize(
    "key", ["max_tokens", "input_tokens", "tokenizer", "author", "key", "idempotency_key"]
)
def test_keys_that_only_resemble_one_are_left_alone(key: str) -> None:
    assert not is_secret_key(key)
    assert Redactor().data({key: "value"}) == {key: "value"}


def test_keys_that_are_no_text_are_kept() -> None:
    assert Redactor().data({7: "value", None: 1}) == {7: "value", None: 1}


def test_a_keyed_copy_leaves_the_text_to_its_sink() -> None:
    value = {"token": "abc", "text": "has a canary-value", "in": [{"password": "x"}]}
    found = Redactor(["canary-value"]).keyed(value)
    assert found == {"token": REDACTED, "text": "has a canary-value", "in": [{"password": REDACTED}]}


def test_the_longer_of_two_overlapping_secrets_goes_as_a_whole() -> None:
    assert Redactor(["secret", "secret-and-more"]).text("secret-and-more") == REDACTED


def test_a_value_too_short_to_be_a_secret_is_not_looked_for() -> None:
    short = "x" * (SHORTEST_SECRET - 1)
    assert Redactor([short, ""]).text(f"a {short} b") == f"a {short} b"


def test_a_secret_registered_later_is_removed_too() -> None:
    redactor = Redactor(["first-secret"])
    redactor.register("second-secret")
    assert redactor.text("first-secret second-secret") == f"{REDACTED} {REDACTED}"


def test_a_value_that_contains_itself_ends() -> None:
    loop: list[object] = ["canary-value"]
    loop.append(loop)
    assert "canary" not in repr(Redactor(["canary-value"]).data(loop))


@given(value=json_values)
def test_a_canary_anywhere_in_a_value_is_gone_and_nothing_is_raised(value: object) -> None:
    canary = "canary-0123456789"
    found = Redactor([canary]).data({"a": value, canary: [value, canary, {"b": f"<{canary}>"}]})
    assert canary not in repr(found)


@given(value=json_values)
def test_plain_data_keeps_its_numbers_and_flags(value: object) -> None:
    if isinstance(value, bool | int | float) or value is None:
        assert Redactor(["canary-0123456789"]).data(value) is value
