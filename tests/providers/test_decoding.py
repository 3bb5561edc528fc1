"""Undoing Content-Encoding under a cap."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.decoding import PIECE, Inflater, UndecodableError, inflater_for


def decoded(data: bytes, size: int = 1000) -> bytes:
    inflater = Inflater()
    pieces = [piece for at in range(0, len(data), size) for piece in inflater.feed(data[at : at + size])]
    inflater.finish()
    return b"".join(pieces)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "aes128gcm"])
def test_an_encoding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(UndecodableError, match="not asked for"):
        inflater_for(encoding)


@pytest.mark.parametrize("data", [b"not gzip at all", b"\x1f\x8b\x08\x00garbage and more garbage"])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(UndecodableError):
        decoded(data)


def test_a_body_cut_in_the_middle_is_refused() -> None:
    with pytest.raises(UndecodableError, match="ended early"):
        decoded(gzip.compress(b"x" * 10_000)[:-10])


def test_a_bomb_comes_out_in_small_pieces() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    pieces = Inflater().feed(bomb)
    assert len(bomb) < 100_000
    assert max(len(next(pieces)) for _ in range(20)) <= PIECE


@pytest.mark.parametrize("encoding", [None, "", "identity"])
def test_a_plain_body_needs_no_decoder(encoding: str | None) -> None:
    assert inflater_for(encoding) is None


def test_no_body_at_all_is_fine() -> None:
    assert decoded(b"") == b""


@given(st.binary(max_size=300_000), st.integers(min_value=1, max_value=5_000))
def test_gzip_comes_back_whatever_the_cuts(data: bytes, size: int) -> None:
    assert decoded(gzip.compress(data), size) == data


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_nothing_is_lost_at_the_edge_of_a_piece(size: int) -> None:
    assert decoded(gzip.compress(b"a" * size), 10_000) == b"a" * size


def test_members_that_follow_each_other_are_one_body() -> None:
    assert decoded(gzip.compress(b"one") + gzip.compress(b"two"), 7) == b"onetwo"


def test_deflate_is_understood() -> None:
    assert decoded(zlib.compress(b"hello")) == b"hello"
