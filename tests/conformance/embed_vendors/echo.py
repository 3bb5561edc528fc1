"""The offline model."""

from __future__ import annotations

from typing import Final

from app.providers.echo import Echo, EchoConfig
from tests.conformance.embed_vendors.vendor import EmbedVendor

VENDOR: Final = EmbedVendor(connect=lambda _: Echo(EchoConfig()))
