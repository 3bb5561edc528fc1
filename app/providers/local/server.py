"""The process that serves the local chat model: llama.cpp's own HTTP server, and nothing of ours.

`python -m app.providers.local.server`, started and owned by `process.ModelProcess`. They speak over the
standard streams, so that nothing secret is on the command line:

    parent → child   one line of JSON with the fields of `Settings`
    child → parent   one line: {"port": 4711} when it serves, or {"error": "why it cannot"}

It listens on the loopback address only and asks for the key on every call but `/health`. It ends when its
input ends or its parent is another one: no way of dying leaves it behind.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_WATCH_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to serve. `context_tokens` is shared out among the `slots`, the answers made at once."""

    model_path: str
    model_name: str
    api_key: str
    context_tokens: int
    slots: int
    threads: int
    max_answer_tokens: int


def main() -> None:
    """Serve until the parent is gone."""
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as channel:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints shall not reach the channel
        try:
            server = serve(Settings(**json.loads(sys.stdin.readline())))
        except Exception as error:  # noqa: BLE001 - handed to the parent, which classifies it
            channel.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
            channel.flush()
            os._exit(1)
        channel.write(json.dumps({"port": urlsplit(server.listening_address).port}) + "\n")
    wait_for_the_end(parent)
    os._exit(0)  # the engine's threads are in the middle of answers nobody waits for


def serve(settings: Settings) -> Any:
    """Load the model; the `xllamacpp.Server` is ready when this returns. Raises what the engine raises."""
    xllamacpp = import_module("xllamacpp")  # optional: that it is missing is an answer, not a crash
    params = xllamacpp.CommonParams()
    params.model.path = settings.model_path
    params.model_alias = {settings.model_name}
    params.offline = True
    params.n_ctx = settings.context_tokens
    params.n_parallel = settings.slots
    params.n_predict = settings.max_answer_tokens
    params.cpuparams.n_threads = settings.threads
    params.cpuparams_batch.n_threads = settings.threads
    params.cache_ram_mib = 0
    params.use_jinja = True
    params.enable_reasoning = 0
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings.api_key]
    params.cors_origins = ""
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = 0
    if not Path(settings.model_path).is_file():
        raise FileNotFoundError("the model's file is gone")
    return xllamacpp.Server(params)


def wait_for_the_end(parent: int) -> None:
    """Return when the input ends or the parent has changed.

    The input alone is not enough: a process that the parent forked may hold its other end open.
    """
    stdin = sys.stdin.fileno()
    while os.getppid() == parent:
        readable, _, _ = select.select([stdin], [], [], _WATCH_SECONDS)
        if readable and not os.read(stdin, 4096):
            return


if __name__ == "__main__":
    main()
