"""Cutting a byte stream into lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.ndjson import LineParser


def lines(*chunks: bytes) -> list[bytes]:
    parser = LineParser()
    found = [line for chunk in chunks for line in parser.feed(chunk)]
    return [*found, *parser.finish()]


@pytest.mark.parametrize("text", [b"", b"\n\n", b"\r\n \r\n", b"  "])
def test_empty_lines_are_nothing(text: bytes) -> None:
    assert lines(text) == []


def test_a_missing_last_line_end_is_forgiven() -> None:
    assert lines(b'{"a":1}\n{"b"', b":2}") == [b'{"a":1}', b'{"b":2}']


@given(st.lists(st.integers(min_value=1, max_value=12), max_size=20), st.sampled_from([b"\n", b"\r\n"]))
def test_lines_are_the_same_wherever_the_stream_is_cut(cuts: list[int], newline: bytes) -> None:
    expected = [b'{"a": 1}', b'{"b": "x y"}', b"{}"]
    rest = newline.join([*expected, b""])
    chunks = []
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    assert lines(*chunks, rest) == expected
