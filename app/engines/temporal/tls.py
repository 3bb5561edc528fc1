"""TLS to a Temporal cluster: its files, and what it takes where the SDK only says that it did not connect.

The SDK tells why in the words of its libraries, which no program should go by; so a handshake of our own, by
the same files, finds out. What it finds holds until somebody changes settings or certificates: a cluster that
is away is not found here.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from temporalio.client import TLSConfig

from app.ports.errors import PermanentError

HANDSHAKE_SECONDS: Final = 3.0
FIRST_WORD_SECONDS: Final = 1.0
"""A server of HTTP/2 speaks first, at once; one that refuses our certificate says so at this point."""
NEEDS_CERTIFICATE: Final = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
_UNTRUSTED: Final[Mapping[int, str]] = {
    9: "the certificate of Temporal at {address!r} is not valid yet: set the clocks, or name another cluster "
    "in temporal.address",
    10: "the certificate of Temporal at {address!r} has expired: renew it there, or name another cluster in "
    "temporal.address",
    62: "the certificate of Temporal at {address!r} is not for {name!r}: set temporal.tls_server_name to a "
    "name that stands on it",
    64: "the certificate of Temporal at {address!r} is not for {name!r}: set temporal.tls_server_name to a "
    "name that stands on it",
}
"""By OpenSSL's code of the verification."""
_WRONG_AUTHORITY: Final = (
    "the certificate of Temporal at {address!r} is signed by an authority that is not trusted: set "
    "temporal.tls_ca to the file of the one that signed it"
)
_CERTIFICATE_WANTED: Final = (
    "Temporal at {address!r} demands a client certificate: set temporal.tls_certificate and temporal.tls_key"
)
_CERTIFICATE_REFUSED: Final = (
    "Temporal at {address!r} refuses the certificate of temporal.tls_certificate: see whether it has expired "
    "and which authority the cluster trusts"
)
_SPEAKS_TLS: Final = "TLS"
"""Nothing is wrong with it."""
NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"}
)
"""What OpenSSL says of an answer that is none of TLS; a connection that just ends is no answer."""
_NO_TLS: Final = "Temporal at {address!r} does not speak TLS: unset temporal.tls and the temporal.tls_… files"
_ONLY_TLS: Final = (
    "Temporal at {address!r} speaks TLS only: set temporal.tls, and temporal.tls_ca where its authority is "
    "your own"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Paths of PEM files; a client certificate comes with its key."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def config(self) -> TLSConfig:
        """For the SDK. Raises `PermanentError` for files that cannot be used."""
        _context(self)
        return TLSConfig(
            server_root_ca_cert=_content(self.ca, "temporal.tls_ca"),
            domain=self.server_name,
            client_cert=_content(self.certificate, "temporal.tls_certificate"),
            client_private_key=_content(self.key, "temporal.tls_key"),
        )


def tls_fault(address: str, files: TlsFiles | None) -> str | None:
    """What is wrong between these files (None: no TLS) and the server at `address`; None: nothing of that.

    Blocks for some seconds at most. Raises `PermanentError` for files that cannot be used.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    name = (files.server_name if files is not None else None) or host
    context = _blind() if files is None else _context(files)
    context.set_alpn_protocols(["h2"])
    try:
        plain = socket.create_connection((host, int(port)), timeout=HANDSHAKE_SECONDS)
    except (OSError, ValueError):
        return None
    try:
        with plain:
            told = _handshake(context, plain, name)
    except TimeoutError:
        return None
    if files is None:
        told = _ONLY_TLS if told in {_SPEAKS_TLS, _CERTIFICATE_REFUSED, _CERTIFICATE_WANTED} else None
    elif told == _CERTIFICATE_REFUSED and files.certificate is None:
        told = _CERTIFICATE_WANTED
    return None if told in {None, _SPEAKS_TLS} else told.format(address=address, name=name)


def _handshake(context: ssl.SSLContext, plain: socket.socket, name: str) -> str | None:
    agreed = False
    try:
        with context.wrap_socket(plain, server_hostname=name) as secure:
            agreed = True
            secure.settimeout(FIRST_WORD_SECONDS)
            first = secure.recv(1)
    except ssl.SSLCertVerificationError as error:
        return _UNTRUSTED.get(error.verify_code, _WRONG_AUTHORITY)
    except ssl.SSLError as error:
        return _alert(error.reason or "")
    except TimeoutError:
        raise
    except OSError:
        # Some servers refuse a certificate by a reset; before there was any talk of one, somebody is away.
        return _CERTIFICATE_REFUSED if agreed else None
    return _SPEAKS_TLS if first else _CERTIFICATE_REFUSED


def _alert(reason: str) -> str | None:
    if reason == NEEDS_CERTIFICATE:
        return _CERTIFICATE_WANTED
    if "ALERT" in reason:
        return _CERTIFICATE_REFUSED
    return _NO_TLS if reason in NOT_TLS else None


def _blind() -> ssl.SSLContext:
    """To see whether anybody speaks TLS there; nothing is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _context(files: TlsFiles) -> ssl.SSLContext:
    authority = _content(files.ca, "temporal.tls_ca")
    try:
        context = ssl.create_default_context(cadata=None if authority is None else authority.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise _unusable("temporal.tls_ca", files.ca, "holds no certificate in PEM form") from error
    if files.certificate is None or files.key is None:
        return context
    _content(files.certificate, "temporal.tls_certificate")
    _content(files.key, "temporal.tls_key")
    try:
        # Without a password to give, a key that needs one is refused; OpenSSL would ask the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            why = f"does not belong to the certificate of temporal.tls_certificate {files.certificate.name!r}"
            raise _unusable("temporal.tls_key", files.key, why) from error
        why = f"and temporal.tls_key {files.key.name!r} are no certificate and open key in PEM form"
        raise _unusable("temporal.tls_certificate", files.certificate, why) from error
    return context


def _unusable(setting: str, path: Path | None, why: str) -> PermanentError:
    name = None if path is None else path.name
    return PermanentError("invalid_config", f"{setting} {name!r} {why}")


def _content(path: Path | None, setting: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(setting, path, f"cannot be read: {error.strerror}") from error
