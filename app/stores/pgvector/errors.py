"""What a failure of PostgreSQL means, by its SQLSTATE. Pure; knows no driver.

Messages carry what the server said, which names roles and relations but no password.
"""

from __future__ import annotations

from typing import Final

from app.ports.errors import CallError, ErrorClass, PermanentError, TemporaryError

MAX_SAID: Final = 300

_PERMANENT: Final[dict[str, tuple[ErrorClass, str]]] = {
    "28": ("authentication", "check its user and password"),
    "3D": ("invalid_config", "name a database that exists"),
    "42501": ("permission", "grant its user CREATE on the database, or make it the owner of the schema"),
    "22": ("invalid_request", "change the request"),
    "54": ("invalid_request", "make the records smaller"),
}
_TEMPORARY: Final[dict[str, ErrorClass]] = {
    "57014": "timeout",
    "08": "connection",
    "57P": "connection",
    "53300": "connection",
    "": "server_error",
}
"""By the beginning of the state, the longest one first. What is not known may pass by itself."""


class TableGone(Exception):
    """A table that was there is there no longer: somebody else dropped it."""


def of_server(error: Exception, state: str, instance: str) -> CallError:
    """What the server refused, with that SQLSTATE."""
    said = " ".join(str(error).split())[:MAX_SAID]
    for length in (5, 3, 2, 0):
        known = _PERMANENT.get(state[:length])
        if known is not None:
            error_class, advice = known
            return PermanentError(error_class, f"database {instance!r} refused: {said}; {advice}")
        if state[:length] in _TEMPORARY:
            return TemporaryError(
                _TEMPORARY[state[:length]], f"database {instance!r} failed: {said} ({state})"
            )
    raise AssertionError("the empty beginning is known")


def lost(error: Exception, instance: str) -> TemporaryError:
    """There is no connection, or it broke."""
    return TemporaryError("connection", f"database {instance!r} cannot be reached ({type(error).__name__})")


def too_late(instance: str, seconds: float) -> TemporaryError:
    """The call's time is over."""
    return TemporaryError("timeout", f"database {instance!r} did not finish within {seconds:g} s")


def no_extension(instance: str) -> PermanentError:
    """The extension is not installed in the database."""
    return PermanentError(
        "invalid_config",
        f"database {instance!r} has no extension vector; let its operator install pgvector and run: "
        "CREATE EXTENSION vector",
    )


def malformed_address(instance: str) -> PermanentError:
    """The driver cannot make sense of the DSN, which is not repeated: it may hold a password."""
    return PermanentError(
        "invalid_config",
        f"the dsn of database {instance!r} is malformed; write postgresql://user:password@host:port/database",
    )
