"""What the sinks here need of a redactor; `app.security.redaction` has it."""

from __future__ import annotations

from typing import Any, Protocol


class Redaction(Protocol):
    """Removes secrets, by value from text and by key name from data. Never raises."""

    def text(self, text: str) -> str:
        """The text without secrets."""
        ...

    def data(self, value: Any) -> Any:
        """A copy of a JSON-like value without secrets."""
        ...

    def keyed(self, value: Any) -> Any:
        """A copy without the values of keys that name credentials; for a sink that passes its text on."""
        ...
