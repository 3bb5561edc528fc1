"""One client of the simulated vendor, a process of its own: `python -m tests.bench.callers`; prints JSON.

Every one asks for the same completion and takes its text. `aiohttp` is the floor: the request as bytes
there and back, and the JSON of the answer. A client whose package is not installed says so: what is no
dependency of the tests is looked for in `.tools/sdks` too.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import uvloop
from pydantic import SecretStr

from app.ports.models import CallContext, ChatModel, ChatRequest, Message
from app.providers.anthropic.adapter import Anthropic, AnthropicConfig
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.transport import Transport
from tests.bench.closed_loop import measure
from tests.bench.workloads import CHAT_BODY, MODEL
from tests.service_process import ROOT

Ask = Callable[[], Awaitable[str]]
Caller = Callable[[str], AbstractAsyncContextManager[Ask]]
"""A client of the vendor at a base URL."""
PROMPT: Final = "Outline: what is a group commit?"
MAX_TOKENS: Final = 64
SECONDS: Final = 60.0
KEY: Final = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """How a vendor's completions are asked for, and where the text of one stands."""

    path: str
    body: Mapping[str, Any]
    text: Callable[[Any], str]


CHAT: Final = Api(
    path="/v1/chat/completions",
    body=CHAT_BODY,
    text=lambda answer: str(answer["choices"][0]["message"]["content"]),
)
MESSAGES: Final = Api(
    path="/v1/messages", body=CHAT_BODY, text=lambda answer: str(answer["content"][0]["text"])
)


def bare_aiohttp(api: Api) -> Caller:
    """No more than the calls."""

    @asynccontextmanager
    async def caller(base: str) -> AsyncIterator[Ask]:
        import aiohttp

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask() -> str:
                async with session.post(base + api.path, json=api.body) as response:
                    response.raise_for_status()
                    return api.text(json.loads(await response.read()))

            yield ask

    return caller


def adapter(made: Callable[[str, Transport], ChatModel]) -> Caller:
    """Ours, over our transport."""

    @asynccontextmanager
    async def caller(base: str) -> AsyncIterator[Ask]:
        transport = Transport.over_sockets()
        model = made(base, transport)

        async def ask() -> str:
            request = ChatRequest(
                model=MODEL, messages=[Message(role="user", content=PROMPT)], max_tokens=MAX_TOKENS
            )
            context = CallContext(
                run_id="run", path="step", attempt=1, idempotency_key="key", timeout_seconds=SECONDS
            )
            return (await model.complete(request, context)).text

        try:
            yield ask
        finally:
            await transport.aclose()

    return caller


def _openai(base: str, transport: Transport) -> ChatModel:
    config = OpenAIConfig(name="sim", base_url=f"{base}/v1", api_key=SecretStr(KEY))
    return OpenAI(config, transport)


def _anthropic(base: str, transport: Transport) -> ChatModel:
    return Anthropic(AnthropicConfig(name="sim", base_url=base, api_key=SecretStr(KEY)), transport)


@asynccontextmanager
async def openai_sdk(base: str) -> AsyncIterator[Ask]:
    """The vendor's own package, without its retries."""
    from openai import AsyncOpenAI  # type: ignore[import-not-found,unused-ignore]  # no dependency of ours

    async with AsyncOpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0, timeout=SECONDS) as client:

        async def ask() -> str:
            answer = await client.chat.completions.create(**CHAT_BODY)
            return str(answer.choices[0].message.content)

        yield ask


@asynccontextmanager
async def anthropic_sdk(base: str) -> AsyncIterator[Ask]:
    """The vendor's own package, without its retries."""
    from anthropic import AsyncAnthropic
    from anthropic.types import MessageParam

    messages: list[MessageParam] = [{"role": "user", "content": PROMPT}]
    async with AsyncAnthropic(base_url=base, api_key=KEY, max_retries=0, timeout=SECONDS) as client:

        async def ask() -> str:
            answer = await client.messages.create(model=MODEL, max_tokens=MAX_TOKENS, messages=messages)
            return "".join(block.text for block in answer.content if block.type == "text")

        yield ask


CALLERS: Final[Mapping[str, Caller]] = {
    "bare aiohttp": bare_aiohttp(CHAT),
    "openai adapter": adapter(_openai),
    "openai SDK": openai_sdk,
    "bare aiohttp, messages": bare_aiohttp(MESSAGES),
    "anthropic adapter": adapter(_anthropic),
    "anthropic SDK": anthropic_sdk,
}
PACKAGES: Final = {"openai SDK": "openai", "anthropic SDK": "anthropic"}
"""What a client needs that is no dependency of the service."""


def missing(who: str) -> str | None:
    """Why a client cannot be measured."""
    package = PACKAGES.get(who)
    if package is None or find_spec(package):
        return None
    return f"{package!r} is not installed; run: uv pip install --target .tools/sdks {package}"


async def call(args: argparse.Namespace) -> dict[str, Any]:
    """Warm up, then measure: calls a second, CPU a call of this process."""
    done = 0
    async with CALLERS[args.who](args.base) as ask:

        async def once() -> bool:
            nonlocal done
            good = bool(await ask())
            done += 1
            return good

        await measure(once, concurrency=args.concurrency, seconds=args.seconds / 3, warmup=0)
        done, before = 0, _cpu()
        result = await measure(once, concurrency=args.concurrency, seconds=args.seconds, warmup=0)
        busy = _cpu() - before
    return {"skipped": None, **result.as_dict(), "cpu_ms": busy / max(done, 1) * 1000}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("who", choices=CALLERS)
    parser.add_argument("--base", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    if args.who in PACKAGES:
        sys.path.append(str(ROOT / ".tools" / "sdks"))
    why = missing(args.who)
    result = {"skipped": why} if why else uvloop.run(call(args))
    print(json.dumps(result))  # noqa: T201  the answer to the parent process


if __name__ == "__main__":
    main()
