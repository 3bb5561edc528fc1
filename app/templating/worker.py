"""A worker process: renders templates whose cost nobody can know beforehand, within hard limits.

It has an empty environment, opens no files and starts no processes once it is ready, and is killed by its
renderer when a render takes too long. It lives as long as its standard input is open. Nothing here may
import more than the templates need: starting it is what a hostile template costs.
"""

from __future__ import annotations

import contextlib
import html  # noqa: F401  # as textwrap: the filter striptags imports it on first use
import math
import resource
import signal
import sys
import textwrap  # noqa: F401  # the filter wordwrap imports it on first use, when no file opens any more
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, Final

from app.templating.failures import render_failure
from app.templating.names import Names
from app.templating.sandbox import Sandbox
from app.templating.scope import Scope
from app.templating.template import Loaded, Use, read
from app.templating.wire import HEADER, frame, unframe

_CACHED_TEMPLATES: Final = 256
_STANDARD_FILES: Final = 3


class _Library:
    """The templates this worker has compiled, by source; the one unused for longest goes first."""

    def __init__(self) -> None:
        self.sandbox = Sandbox()
        self._loaded: OrderedDict[tuple[Any, ...], Loaded] = OrderedDict()

    def load(self, use: Use, source: str, extra: list[str], secrets: bool) -> Loaded:
        key = (use, source, tuple(extra), secrets)
        loaded = self._loaded.get(key)
        if loaded is None:
            loaded = read(self.sandbox, source, use, Names(frozenset(extra), secrets))
            self._loaded[key] = loaded
            if len(self._loaded) > _CACHED_TEMPLATES:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        return loaded


def _address_space() -> int:
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    return 0


def _limit(name: int, soft: int) -> None:
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(name)[1]
        resource.setrlimit(name, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _confine(memory_bytes: int) -> None:
    """Give up what no template needs: more memory, files, processes, core dumps, the terminal's signals."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_NOFILE, _STANDARD_FILES)
    _limit(resource.RLIMIT_AS, _address_space() + memory_bytes)


def _answer(library: _Library, request: dict[str, Any], room: int) -> dict[str, Any]:
    values: list[object] = []
    scope = Scope(library.sandbox, request["context"], room=room)
    for index, (use, source, extra, secrets) in enumerate(request["parts"]):
        try:
            values.append(library.load(use, source, extra, secrets).render(scope))
        except Exception as error:  # noqa: BLE001  # a template may raise anything; it is put into words
            spent = isinstance(error, (MemoryError, RecursionError))
            return {"failed": index, "message": render_failure(error), "spent": spent}
    return {"values": values}


def _reply(library: _Library, request: dict[str, Any], room: int) -> tuple[bytes, bool]:
    try:
        answer = _answer(library, request, room)
        return frame(answer), bool(answer.get("spent"))
    except (TypeError, MemoryError) as error:
        spent = isinstance(error, MemoryError)
        message = render_failure(error) if spent else "the template yields what JSON cannot carry"
        return frame({"failed": 0, "message": message, "spent": spent}), spent


def _receive(source: BinaryIO) -> Any:
    header = source.read(HEADER.size)
    return unframe(source.read(HEADER.unpack(header)[0])) if len(header) == HEADER.size else None


def _warm_up(library: _Library) -> None:
    """Use once whatever is loaded from files on first use."""
    scope = Scope(library.sandbox, {"inputs": {"a": ["b c"]}}, room=100)
    library.load(
        "field", "{% for x in inputs.a %}{{ 'é\\n' ~ x | wordwrap(9) }}{% endfor %}", [], False
    ).render(scope)


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests until the source ends, or until memory ran out once."""
    hello = _receive(source)
    library = _Library()
    _warm_up(library)
    _confine(hello["memory_bytes"])
    sink.write(frame({}))
    sink.flush()
    seconds = math.ceil(hello["timeout_seconds"]) + 1
    while (request := _receive(source)) is not None:
        _limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + seconds)
        reply, spent = _reply(library, request, hello["max_output_chars"])
        sink.write(reply)
        sink.flush()
        if spent:
            return


def main() -> None:
    """Serve on the standard streams."""
    serve(sys.stdin.buffer, sys.stdout.buffer)
