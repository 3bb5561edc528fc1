"""One embedding vendor as the suite of `test_embedder` sees it: its adapter, and what its server says.

A vendor joins by a module here, with an `EmbedVendor`, and a line in `VENDORS` of the suite. The builders
of its `EmbedWire` read what the adapter sends and write what the vendor's real server answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

from app.ports.models import Embedder
from app.providers.transport import Transport

KEY: Final = "canary-0123456789abcdef"
"""The key that `connect` gives the adapter; the suite looks for it in every message."""
MODEL: Final = "model-1"
JSON: Final = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedWire:
    """The vendor's server."""

    texts: Callable[[Mapping[str, Any]], Sequence[str]]
    """The texts that a request asks for."""
    answer: Callable[[Mapping[str, Any], Sequence[Any]], Mapping[str, Any]]
    """The body of an answer to a request, with these vectors; what is no vector goes out as it is."""
    error: Callable[[int, str], Mapping[str, Any]]
    """The body of a failure with this status and this message."""
    dimensions: Callable[[Mapping[str, Any]], int | None]
    """The length of the vectors that a request asks for."""
    keyless: Callable[[Transport], Embedder] | None = None
    """The adapter without a key, at the vendor's own address; None where keys are no matter."""

    def failure(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """An answer that is no success."""
        body = orjson.dumps(self.error(status, message))
        return httpx.Response(status, content=body, headers={**JSON, **(headers or {})})


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedVendor:
    """One adapter."""

    connect: Callable[[Transport], Embedder]
    """The adapter over this transport, with `KEY` as its key."""
    wire: EmbedWire | None = None
    """None for an adapter that calls nobody."""
    dimensions: int | None = 16
    """A length of vectors that can be asked for; None where there is no choice."""
    counts_tokens: bool = True
