"""Azure OpenAI's chat completions: OpenAI's, and what content filters add to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
from pydantic import SecretStr

from app.ports.models import ChatModel
from app.providers.azure import Azure, AzureConfig
from app.providers.transport import Transport
from tests.conformance.chat_vendors import openai
from tests.conformance.chat_vendors.vendor import KEY, Said, sse

BASE: Final = "https://acme.openai.azure.com"
SAFE: Final = {"hate": {"filtered": False, "severity": "safe"}}


def _connect(transport: Transport) -> ChatModel:
    return Azure(AzureConfig(name="main", base_url=BASE, api_key=SecretStr(KEY)), transport)


def _keyless(transport: Transport) -> ChatModel:
    return Azure(AzureConfig(name="main", base_url=BASE), transport)


def _answer(said: Said) -> Mapping[str, Any]:
    answer = dict(openai.VENDOR.answer(said))
    choices = [{**choice, "content_filter_results": SAFE} for choice in answer["choices"]]
    filtered = [{"prompt_index": 0, "content_filter_results": SAFE}]
    return {**answer, "choices": choices, "prompt_filter_results": filtered}


def _frames(said: Said) -> Sequence[bytes]:
    """The prompt's filters speak first."""
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    return [sse(orjson.dumps(first)), *openai.VENDOR.frames(said)]


def _error(status: int, message: str) -> Mapping[str, Any]:
    return {"error": {"code": str(status), "message": message}}


VENDOR: Final = replace(
    openai.VENDOR, connect=_connect, keyless=_keyless, answer=_answer, frames=_frames, error=_error
)
