"""Keeps secrets out of what the service writes: logs, errors, traces.

Two nets. `text` removes every registered secret value, wherever it stands and in the usual encodings,
and what looks like a credential by its shape (bearer tokens, passwords in URLs, vendors' key prefixes).
`data` also removes the values of keys that hold credentials by their name.

A net, not a licence: secrets are an opaque type that is resolved at send time; this is what catches the
one that a vendor repeats in an error message.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

REDACTED: Final = "[redacted]"
SHORTEST_SECRET: Final = 5
"""Shorter values are not looked for: removing every `abc` would make a log unreadable and hide nothing."""
SEQUENCES: Final = (list, tuple, set, frozenset)
PLAIN: Final = (int, float)
"""Neither text nor a place for it; most values of a log line that are not text."""
DEEPEST: Final = 8
"""Nesting below this is replaced as a whole."""

SECRET_KEYS: Final = frozenset(
    {
        "authorization",
        "proxy_authorization",
        "cookie",
        "set_cookie",
        "api_key",
        "apikey",
        "x_api_key",
        "token",
        "secret",
        "secrets",
        "password",
        "passwd",
        "private_key",
        "signing_key",
        "credentials",
    }
)
SECRET_SUFFIXES: Final = ("_api_key", "_token", "_secret", "_password", "_private_key", "_signing_key")

SHAPES: Final = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)(?=[\w.~+/-]*[\d=])[\w.~+/=-]{8,}"
    r"|(?P<userinfo>://[^\s/:@\"']*:)[^\s/@\"']+(?=@)"
    r"|(?-i:\b(?:sk|pk|rk)-[\w-]{16,})"
    r"|(?-i:\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)",
    re.IGNORECASE,
)
HINTS: Final = ("earer", "EARER", "asic ", "ASIC ", "://", "sk-", "pk-", "rk-", "eyJ")
"""Text without any of these has none of the shapes; looking for them is ten times cheaper."""


class Redactor:
    """Knows the secret values of one process. Never raises, whatever it is given."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: set[str] = set()
        self._values: re.Pattern[str] | None = None
        self.register(*secrets)

    def register(self, *secrets: str) -> None:
        """Look for these values from now on; empty and very short ones are ignored."""
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                self._forms.update(_forms(secret))
        if self._forms:
            # The longest first: a secret may be the beginning of another.
            alternatives = sorted(self._forms, key=len, reverse=True)
            self._values = re.compile("|".join(map(re.escape, alternatives)))

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._values is not None:
            text = self._values.sub(REDACTED, text)
        if any(hint in text for hint in HINTS):
            text = SHAPES.sub(_keep_label, text)
        return text

    def data(self, value: Any) -> Any:
        """A copy of a JSON-like value without secrets, keys included."""
        return _walk(value, DEEPEST, self.text)

    def keyed(self, value: Any) -> Any:
        """A copy without the values of keys that name credentials; for a sink that passes its text on."""
        return _walk(value, DEEPEST, str)


@lru_cache(maxsize=4096)
def is_secret_key(key: str) -> bool:
    """Whether a key names a credential: `Authorization`, `x-api-key`, `openai_api_key`; not `max_tokens`."""
    name = key.lower().replace("-", "_")
    return name in SECRET_KEYS or name.endswith(SECRET_SUFFIXES)


def _walk(value: Any, depth: int, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, PLAIN):
        return value
    if isinstance(value, dict) or (not isinstance(value, SEQUENCES) and isinstance(value, Mapping)):
        return {
            clean(key) if isinstance(key, str) else key: _walk(item, depth - 1, clean)
            if depth and not (item and isinstance(key, str) and is_secret_key(key))
            else REDACTED
            for key, item in value.items()
        }
    if isinstance(value, SEQUENCES):
        return [_walk(item, depth - 1, clean) for item in value] if depth else REDACTED
    return value


def _forms(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    encoded = base64.b64encode(raw).decode().rstrip("=")
    forms = {secret, repr(secret)[1:-1]}
    forms |= {json.dumps(form, ensure_ascii=plain)[1:-1] for form in forms for plain in (True, False)}
    return forms | {quote(raw, safe=""), encoded, encoded.replace("+", "-").replace("/", "_")}


def _keep_label(match: re.Match[str]) -> str:
    return (match["scheme"] or match["userinfo"] or "") + REDACTED
