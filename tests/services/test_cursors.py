"""Cursors continue the list they were given out for, and no other."""

from __future__ import annotations

import base64

import orjson
import pytest

from app.services.cursors import fingerprint, read_cursor, write_cursor
from app.services.errors import InvalidCursor

MARK = fingerprint("runs", "tenant-a", ["failed"])


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "%%%",
        "ä",
        "bm90IGpzb24",
        encoded({"mark": MARK}),
        encoded([MARK]),
        encoded([MARK, 1.5]),
        encoded([MARK, "1.5", "id"]),
        encoded([MARK, 1.5, 7]),
        encoded([MARK, 1.5, "id", "more"]),
        encoded(["another", 1.5, "id"]),
    ],
)
def test_a_cursor_that_was_not_given_out_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        read_cursor(cursor, MARK, (float, str))


def test_a_cursor_of_other_filters_is_refused() -> None:
    cursor = write_cursor(fingerprint("runs", "tenant-a", ["completed"]), (1.5, "id"))
    with pytest.raises(InvalidCursor, match="filters"):
        read_cursor(cursor, MARK, (float, str))


def test_a_cursor_gives_its_position_back() -> None:
    cursor = write_cursor(MARK, (1769860800.123456, "0197d6a0"))
    assert read_cursor(cursor, MARK, (float, str)) == (1769860800.123456, "0197d6a0")
    assert cursor.replace("-", "").replace("_", "").isalnum()
