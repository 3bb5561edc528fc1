"""The load generator, a process of its own: `python -m tests.bench.load URL --body JSON …`; prints JSON."""

from __future__ import annotations

import argparse
import json

import aiohttp
import uvloop

from tests.bench.closed_loop import Measurement, measure


async def generate(
    url: str, body: str, *, concurrency: int, seconds: float, warmup: float, limit: int
) -> Measurement:
    """POST `body` again and again; a success is a 200 whose run completed."""
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def once() -> bool:
            try:
                async with session.post(url, data=body) as response:
                    answer = await response.read()
                    return response.status == 200 and b'"failed"' not in answer[:400]
            except aiohttp.ClientError:
                return False

        return await measure(once, concurrency=concurrency, seconds=seconds, warmup=warmup, limit=limit)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--body", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--limit", type=int, default=0)
    args = parser.parse_args()
    result = uvloop.run(
        generate(
            args.url,
            args.body,
            concurrency=args.concurrency,
            seconds=args.seconds,
            warmup=args.warmup,
            limit=args.limit,
        )
    )
    print(json.dumps(result.as_dict()))  # noqa: T201  the answer to the parent process


if __name__ == "__main__":
    main()
