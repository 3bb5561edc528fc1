"""Azure OpenAI's embeddings: OpenAI's, behind a deployment."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pydantic import SecretStr

from app.ports.models import Embedder
from app.providers.azure import Azure, AzureConfig
from app.providers.transport import Transport
from tests.conformance.embed_vendors import openai
from tests.conformance.embed_vendors.vendor import KEY, EmbedVendor

BASE: Final = "https://acme.openai.azure.com"


def _connect(transport: Transport) -> Embedder:
    return Azure(AzureConfig(name="main", base_url=BASE, api_key=SecretStr(KEY)), transport)


def _keyless(transport: Transport) -> Embedder:
    return Azure(AzureConfig(name="main", base_url=BASE), transport)


assert openai.VENDOR.wire is not None
VENDOR: Final = EmbedVendor(connect=_connect, wire=replace(openai.VENDOR.wire, keyless=_keyless))
