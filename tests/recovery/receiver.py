"""A receiver of webhooks on a loopback port, in a thread: it checks signatures and answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

Answer = Callable[[int], int]
"""The status for the n-th request (from 1); it may take its time."""


@dataclass
class Receiver:
    """What came, as far as its signature was good, and how often."""

    secret: str
    answer: Answer
    url: str = ""
    arrived: list[tuple[str, Any]] = field(default_factory=list)
    """`webhook-id` and body, in order."""
    accepted: list[str] = field(default_factory=list)
    """Ids that were answered with 2xx."""
    forged: int = 0
    news: threading.Condition = field(default_factory=threading.Condition)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Check, keep, answer."""
        try:
            message = Webhook(self.secret).verify(body, headers)
        except Exception:  # whatever it is, it is no message of ours
            self.forged += 1
            raise
        with self.news:
            self.arrived.append((headers["webhook-id"], message))
            number = len(self.arrived)
            self.news.notify_all()
        status = self.answer(number)
        if status < 300:
            with self.news:
                self.accepted.append(headers["webhook-id"])
                self.news.notify_all()
        return status

    def wait(self, enough: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for something to be true of what came."""
        with self.news:
            assert self.news.wait_for(enough, seconds), (len(self.arrived), len(self.accepted))


@contextmanager
def receiving(secret: str, answer: Answer) -> Iterator[Receiver]:
    """A receiver for as long as the context is open."""
    receiver = Receiver(secret, answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.take(headers, body)
            try:
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()
            except OSError:
                self.close_connection = True  # the sender is dead

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, name="receiver")
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
