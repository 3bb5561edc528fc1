"""Hosts of their own on one machine: network namespaces around a router, with links that can be cut.

A cut between two hosts is made on the router, in both directions: silent (packets vanish, as behind a dead
switch or a firewall that drops) or refusing (the router answers that the host is unreachable). A host that
is unplugged has no link at all. Everything is gone when the context ends; names carry the process id, so
that test processes do not meet. Needs root, and `ip` (Debian's iproute2).

What runs in a host is started by `Host.do`, whose thread lives there: threads, sockets and processes that it
makes belong to the host, too. So loopback in there is the host's own.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, ParamSpec, TypeVar

from tests.conftest import require_or_skip

P = ParamSpec("P")
T = TypeVar("T")

CLONE_NEWNET: Final = 0x40000000
NAMESPACES: Final = Path("/run/netns")
Cut = Literal["silent", "refusing"]
_RULES: Final = {"silent": "blackhole", "refusing": "unreachable"}
_NETWORKS: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace, reached by the others under `address`."""

    name: str
    number: int
    namespace: str
    _thread: ThreadPoolExecutor

    @property
    def address(self) -> str:
        """Of its only link."""
        return f"10.77.{self.number}.2"

    def do(self, action: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """The result of an action that happens here."""
        return self._thread.submit(action, *args, **options).result()


@dataclass(slots=True)
class Network:
    """Hosts around a router, every one reachable from every other."""

    router: str
    hosts: dict[str, Host] = field(default_factory=dict)
    _cuts: list[int] = field(default_factory=list)

    def cut(self, one: str, other: str, how: Cut) -> None:
        """Let nothing through between two hosts any more."""
        first, second = self.hosts[one].address, self.hosts[other].address
        for source, target in ((first, second), (second, first)):
            number = 100 + len(self._cuts)
            self._rule("add", "pref", str(number), "from", source, "to", target, _RULES[how])
            self._cuts.append(number)

    def unplug(self, name: str) -> None:
        """Take a host's link down: it reaches nobody, and nobody reaches it."""
        _ip("-n", self.router, "link", "set", name, "down")

    def heal(self) -> None:
        """Undo every cut."""
        while self._cuts:
            self._rule("del", "pref", str(self._cuts.pop()))
        for name in self.hosts:
            _ip("-n", self.router, "link", "set", name, "up")

    def _rule(self, *arguments: str) -> None:
        _ip("-n", self.router, "rule", *arguments)


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Hosts of these names; skips the test where this user may not make any."""
    prefix = f"orchestrator-{os.getpid()}-{next(_NETWORKS)}"
    with ExitStack() as stack:
        made = Network(f"{prefix}-router")
        _namespace(made.router, stack)
        # A process there, because only from inside can it be told to forward.
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        _run("ip", "netns", "exec", made.router, "sh", "-c", forward)
        for number, name in enumerate(names, start=1):
            namespace = f"{prefix}-{name}"
            _namespace(namespace, stack)
            _plug(made.router, namespace, name, number)
            thread = ThreadPoolExecutor(1, initializer=_enter, initargs=(namespace,))
            stack.callback(thread.shutdown)
            made.hosts[name] = Host(name, number, namespace, thread)
        yield made


def _namespace(name: str, stack: ExitStack) -> None:
    if shutil.which("ip") is None:
        require_or_skip("there is no `ip`", "install Debian's iproute2")
    add = ["ip", "netns", "add", name]
    if os.geteuid() != 0 or subprocess.run(add, capture_output=True, check=False).returncode != 0:
        require_or_skip("no network namespace can be made here", "run the test as root, with CAP_NET_ADMIN")
    # What still runs in there keeps it alive, so whoever starts something ends it before this.
    stack.callback(_ip, "netns", "del", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _plug(router: str, namespace: str, name: str, number: int) -> None:
    """A cable from the router's socket of that name to `eth0` of the host."""
    _ip("link", "add", "eth0", "netns", namespace, "type", "veth", "peer", "name", name, "netns", router)
    _ip("-n", router, "addr", "add", f"10.77.{number}.1/30", "dev", name)
    _ip("-n", router, "link", "set", name, "up")
    _ip("-n", namespace, "addr", "add", f"10.77.{number}.2/30", "dev", "eth0")
    _ip("-n", namespace, "link", "set", "eth0", "up")
    _ip("-n", namespace, "route", "add", "default", "via", f"10.77.{number}.1")


def _enter(namespace: str) -> None:
    """Move the calling thread into a namespace; what it starts follows."""
    library = ctypes.CDLL(None, use_errno=True)
    with (NAMESPACES / namespace).open() as place:
        if library.setns(place.fileno(), CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)
