"""`python -m tests.simulator --port 0 --latency-ms 20`: serves until it is killed.

The first line on standard output is JSON: `{"port": 40123, "pid": 4711}`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys

import uvloop

from tests.simulator.server import Connection, World


async def serve(host: str, port: int, latency_seconds: float) -> None:
    """Listen for ever."""
    world = World(latency=latency_seconds)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(world), host, port, backlog=4096)
    ready = {"port": server.sockets[0].getsockname()[1], "pid": os.getpid()}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator", description="A simulated model vendor."
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 listens on every address")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before every answer")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.host, arguments.port, arguments.latency_ms / 1000))


if __name__ == "__main__":
    main()
