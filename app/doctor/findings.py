"""What an examination found: one line a check, each ok, warn or fail, with what to do.

`fail`: the service does not start, or something that was configured cannot be used. `warn`: it works, and
somebody should know. What does not belong here: finding anything out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

import orjson

Level = Literal["ok", "warn", "fail"]

EXIT_CODES: Final[dict[Level, int]] = {"ok": 0, "warn": 1, "fail": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check. `advice` says what to do; it is empty where nothing is to be done."""

    check: str
    status: Level
    detail: str
    advice: str = ""

    def line(self) -> str:
        """For people."""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.status:4}  {self.check}: {self.detail}{advice}"


def ok(check: str, detail: str) -> Finding:
    """Nothing is to be done."""
    return Finding(check=check, status="ok", detail=detail)


def warn(check: str, detail: str, advice: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(check=check, status="warn", detail=detail, advice=advice)


def fail(check: str, detail: str, advice: str = "") -> Finding:
    """It does not work. Without `advice` the detail says what to do."""
    return Finding(check=check, status="fail", detail=detail, advice=advice)


def worst(findings: Iterable[Finding]) -> Level:
    """The status of all of them together."""
    return max((it.status for it in findings), key=lambda it: EXIT_CODES[it], default="ok")


def cleaned(findings: Iterable[Finding], clean: Callable[[str], str]) -> list[Finding]:
    """The findings with every text passed through `clean`, which takes secrets out."""
    return [replace(it, detail=clean(it.detail), advice=clean(it.advice)) for it in findings]


def as_json(findings: Sequence[Finding]) -> str:
    """`{"status", "findings": [{"check", "status", "detail", "advice"}]}`."""
    document = {"status": worst(findings), "findings": [asdict(it) for it in findings]}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
