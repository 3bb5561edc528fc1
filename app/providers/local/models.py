"""The provider `local`: models that installed packages carry. No account, no key, no network.

Small on purpose: an embedding model of static weights, and a chat model of 135 million parameters that
copies a sentence from a short context well and knows little by itself. Nothing is loaded or started
before the first use.
"""

from __future__ import annotations

import os

from pydantic import SecretStr

from app.ports.errors import PermanentError
from app.ports.models import ChatModel, Embedder, Reranker
from app.providers.local.embedder import LocalEmbedder
from app.providers.local.llm import LocalChat
from app.providers.local.packages import CHAT_MODEL, chat_file, embedding_files
from app.providers.local.process import Address, ModelProcess
from app.providers.local.reranker import LocalReranker
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.transport import Transport


class LocalModels:
    """Owns the chat model's process; `await close()` ends it."""

    def __init__(
        self,
        transport: Transport,
        *,
        name: str = "local",
        slots: int = 2,
        context_tokens: int = 4096,
        threads: int | None = None,
        max_answer_tokens: int = 1024,
        start_timeout_seconds: float = 60.0,
    ) -> None:
        """`transport` must reach the loopback address: give it one without an egress policy.

        `slots` answers are made at the same time, each with `context_tokens` for question and answer
        (some 23 KiB of memory a token); more callers wait in line. `threads` defaults to all cores but
        one, four at most.
        """
        self._transport = transport
        self._name = name
        self._settings = {
            "model_name": CHAT_MODEL,
            "context_tokens": context_tokens * slots,
            "slots": slots,
            "threads": threads or _spare_cores(),
            "max_answer_tokens": max_answer_tokens,
        }
        self._start_timeout_seconds = start_timeout_seconds
        self._process: ModelProcess | None = None
        self._chat = LocalChat(self._model_process, self._connected)
        self._embedder = LocalEmbedder()
        self._reranker = LocalReranker(self._embedder)

    def chat(self) -> ChatModel:
        """The chat model `smollm2-135m-instruct`."""
        return self._chat

    def embedder(self) -> Embedder:
        """The embedding model `wordllama-256`."""
        return self._embedder

    def reranker(self) -> Reranker:
        """Reranking by the vectors of `wordllama-256`."""
        return self._reranker

    @staticmethod
    def chat_available() -> bool:
        """Whether the packages of the chat model are installed."""
        try:
            chat_file()
        except PermanentError:
            return False
        return True

    @staticmethod
    def embeddings_available() -> bool:
        """Whether the packages of the embedding model are installed."""
        try:
            embedding_files()
        except PermanentError:
            return False
        return True

    async def warm(self) -> None:
        """Start the chat model now, so that the first answer does not wait for it. Raises as a call does."""
        await self._model_process().address(timeout_seconds=self._start_timeout_seconds)

    async def close(self) -> None:
        """End the chat model's process; harmless when there is none."""
        if self._process is not None:
            await self._process.close()

    def _model_process(self) -> ModelProcess:
        if self._process is None:
            self._process = ModelProcess(
                {**self._settings, "model_path": str(chat_file())},
                start_timeout_seconds=self._start_timeout_seconds,
            )
        return self._process

    def _connected(self, address: Address) -> ChatModel:
        config = OpenAIConfig(
            name=self._name,
            base_url=address.base_url,
            api_key=SecretStr(address.api_key),
            # The server offers to keep a connection and then closes it after a stream: keep none.
            headers={"connection": "close"},
        )
        return OpenAI(config, self._transport)


def _spare_cores() -> int:
    """Cores for the engine: its threads wait for each other, so one too many costs more than it gives."""
    return max(1, min((os.cpu_count() or 1) - 1, 4))
