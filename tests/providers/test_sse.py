"""Cutting a byte stream into events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.sse import EventParser


def events(*chunks: bytes) -> list[bytes]:
    parser = EventParser()
    found = [data for chunk in chunks for data in parser.feed(chunk)]
    return [*found, *parser.finish()]


@pytest.mark.parametrize(
    "text", [b"", b"\n\n\n", b": comment\n\n", b"event: ping\nid: 3\nretry: 5\n\n", b"data\n\n"]
)
def test_what_is_no_data_is_no_event(text: bytes) -> None:
    assert events(text) == []


def test_lines_of_one_event_are_joined() -> None:
    assert events(b"data: a\ndata: b\nevent: x\ndata:c\n\n") == [b"a\nb\nc"]


def test_a_missing_last_blank_line_is_forgiven() -> None:
    assert events(b"data: a\n\ndata: b") == [b"a", b"b"]


@given(st.lists(st.integers(min_value=1, max_value=30), max_size=20), st.sampled_from([b"\n", b"\r\n"]))
def test_events_are_the_same_wherever_the_stream_is_cut(cuts: list[int], newline: bytes) -> None:
    lines = [b"data: {}", b"", b": hi", b"data: first", b"data: second", b"", b"data: [DONE]", b"", b""]
    rest = newline.join(lines)
    chunks = []
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    assert events(*chunks, rest) == [b"{}", b"first\nsecond", b"[DONE]"]
