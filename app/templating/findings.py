"""What is wrong with one template, before anybody knows where in a document it stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend. `line` counts from 1 within the template."""

    detail: str
    hint: str | None = None
    line: int | None = None


class Refused(Exception):
    """A template cannot be used; `findings` is not empty."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(f"{len(findings)} finding(s)")
        self.findings = findings
