"""A web server of somebody else's: files, a page by number, a job that takes its time, and what was sent."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.02
"""How long the end of the server may take."""


@dataclass
class Web:
    """One server. `GET /job/status` gives the next of `states`, and the last one again and again."""

    url: str = ""
    states: list[str] = field(default_factory=lambda: ["done"])
    sent: list[dict[str, Any]] = field(default_factory=list)
    """`{method, path, headers, body}` of everything but GET, header names in lower case."""


class _Handler(SimpleHTTPRequestHandler):
    """Serves files; what is sent is kept and answered with 201."""

    def __init__(self, *arguments: Any, web: Web, directory: str) -> None:
        self._web = web
        self.extensions_map = {**self.extensions_map, "": "application/json"}
        super().__init__(*arguments, directory=directory)

    def do_GET(self) -> None:
        if self.path != "/job/status":
            super().do_GET()
            return
        states = self._web.states
        self._answer(200, {"state": states.pop(0) if len(states) > 1 else states[0]})

    def do_POST(self) -> None:
        self._keep()

    def do_PUT(self) -> None:
        self._keep()

    def do_DELETE(self) -> None:
        self._keep()

    def _keep(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._web.sent.append({"method": self.command, "path": self.path, "headers": headers, "body": body})
        self._answer(201, {"job": 17})

    def _answer(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[Web]:
    """A server of the files in a folder; those without an ending are JSON."""
    web = Web()
    handler = functools.partial(_Handler, web=web, directory=str(folder))
    with ThreadingHTTPServer((LOOPBACK, 0), handler) as server:
        web.url = f"http://{LOOPBACK}:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": POLL_SECONDS})
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()
