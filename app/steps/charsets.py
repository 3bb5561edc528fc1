"""The character sets that an answer's text may be in, each with the codec that reads it.

A closed list, because the name comes from the callee: some of Python's codecs take time that grows with
the square of the text (`punycode`), some read no text at all (`zip`, `hex`), and looking an unknown name
up costs memory that is never given back. Every codec here is linear and written in C.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_CODECS: Final = (
    *("utf-8", "us-ascii", "utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be"),
    *(f"iso-8859-{part}" for part in (*range(1, 12), 13, 14, 15, 16)),
    *(f"windows-125{part}" for part in range(9)),
    *("koi8-r", "koi8-u"),
    *("gb2312", "gbk", "gb18030", "big5", "big5-hkscs"),
    *("shift_jis", "cp932", "euc-jp", "euc-kr", "cp949", "johab"),
)
_OTHER_NAMES: Final = {
    "utf8": "utf-8",
    "ascii": "us-ascii",
    "utf16": "utf-16",
    "utf32": "utf-32",
    "latin1": "iso-8859-1",
    "latin-1": "iso-8859-1",
    "latin-9": "iso-8859-15",
    "windows-874": "cp874",
    "macintosh": "mac-roman",
    "sjis": "shift_jis",
    "shift-jis": "shift_jis",
    "x-sjis": "shift_jis",
    "windows-31j": "cp932",
    "x-gbk": "gbk",
    "x-euc-jp": "euc-jp",
    "ks-c-5601-1987": "cp949",
}
_CODEC_OF: Final[Mapping[str, str]] = {name: name for name in _CODECS} | _OTHER_NAMES
LONGEST_NAME: Final = max(map(len, _CODEC_OF))


def decoded(content: bytes, charset: str) -> str | None:
    """The text; None if the character set is not on the list or the bytes are not text in it."""
    if len(charset) > LONGEST_NAME:
        return None
    name = charset.lower()
    codec = _CODEC_OF.get(name) or _CODEC_OF.get(name.replace("_", "-"))
    if codec is None:
        return None
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        return None
