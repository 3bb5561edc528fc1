"""Which character sets are read, and that reading them takes no longer than the text is long."""

from __future__ import annotations

import codecs
import time

import pytest

from app.steps import charsets
from app.steps.charsets import decoded

MIB = 2**20
SECONDS = 2.0
"""For a mebibyte; a codec whose time grows with the square of the text takes hours."""


@pytest.mark.parametrize("name", ["punycode", "idna", "utf-7", "raw_unicode_escape", "zip", "rot13", "", "é"])
def test_a_name_that_is_not_on_the_list_reads_nothing(name: str) -> None:
    assert decoded(b"abc", name) is None


def test_an_unknown_name_is_never_looked_up() -> None:
    looked_up: list[str] = []

    def search(name: str) -> None:
        looked_up.append(name)

    codecs.register(search)
    try:
        assert decoded(b"abc", "never-heard-of") is None
    finally:
        codecs.unregister(search)
    assert looked_up == []


def test_bytes_that_are_no_text_in_it_read_nothing() -> None:
    assert decoded(b"\xff", "utf-8") is None


@pytest.mark.parametrize("name", charsets._CODEC_OF)
@pytest.mark.parametrize("byte", [b"a", b"\x81", b"\xa4", b"\xff"])
def test_every_one_on_the_list_is_linear(name: str, byte: bytes) -> None:
    began = time.process_time()
    decoded(byte * MIB, name)
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize("name", charsets._CODEC_OF)
def test_every_one_on_the_list_reads_what_was_written_in_it(name: str) -> None:
    assert decoded("letter".encode(charsets._CODEC_OF[name]), name.upper()) == "letter"
