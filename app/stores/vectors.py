"""The embedded vector database: a `VectorStore` in a SQLite file of its own, searched exactly in numpy.

All work is done in one thread of its own, in order, off the event loop (numpy and sqlite3 let go of the
interpreter lock while they work). This module owns that thread, the deadlines and the mapping of errors;
what is done there is in `vector_engine`. numpy is imported with the first call that needs it, in that
thread: it costs 0.15 s and more, which start-up shall not pay.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.turns import in_short_turns
from app.ports.vectors import Filter, IndexInfo, VectorHit, VectorQuery, VectorRecord
from app.stores.vector_file import VectorFile

if TYPE_CHECKING:
    from app.stores.vector_engine import VectorEngine

T = TypeVar("T")

DEFAULT_CACHE_BYTES: Final = 512 * 1024 * 1024
_CHECK_SECONDS: Final = 5.0
_LOST_FILE: Final = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT"})


class EmbeddedVectorStore:
    """Implements `app.ports.vectors.VectorStore`; `await open()` before use, `await close()` after.

    Scores are cosines (-1 … 1); a vector of zeros scores 0. Deleting from or describing an index that
    does not exist is `not_found`, as searching one is. A namespace of None and `""` are the same one.
    """

    def __init__(self, path: Path, *, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        """`path` is the file, created when missing; `cache_bytes` bounds the vectors kept in memory."""
        self._path = path
        self._cache_bytes = cache_bytes
        self._thread: ThreadPoolExecutor | None = None
        self._file: VectorFile | None = None
        self._engine: VectorEngine | None = None

    async def open(self) -> None:
        """Open the file. Raises `PermanentError` if it is unusable, `TemporaryError` if it is busy."""
        if self._thread is not None:
            return
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vectors")
        try:
            await self._in_thread(self._open_file, timeout_seconds=None)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what has begun and close the file; harmless when not open."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        await asyncio.get_running_loop().run_in_executor(thread, in_short_turns, self._close_file)
        thread.shutdown(wait=False)

    async def check(self) -> None:
        """Raise if the database cannot serve."""
        await self._in_thread(lambda: self._opened().index_names(), timeout_seconds=_CHECK_SECONDS)

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        """See the port. `top_k` is 1 to 10,000; vectors come back as they were stored, in float32.

        Scores of a hybrid search are 0 to 1 (`vector_fusion`). The first one in a namespace reads all of its
        texts, and has their words kept from then on.
        """
        return await self._in_thread(
            lambda: self._loaded().search(index, query), timeout_seconds=context.timeout_seconds
        )

    async def upsert(
        self,
        index: str,
        records: Sequence[VectorRecord],
        *,
        namespace: str | None,
        context: CallContext,
        model: str | None = None,
    ) -> int:
        """See the port. Durable when it returns; after a timeout it may have been stored or not."""
        return await self._in_thread(
            lambda: self._loaded().upsert(index, records, namespace=namespace or ""),
            timeout_seconds=context.timeout_seconds,
        )

    async def delete(
        self,
        index: str,
        *,
        ids: Sequence[str] | None,
        filter: Filter | None,
        delete_all: bool,
        namespace: str | None,
        context: CallContext,
    ) -> int:
        """See the port. Durable when it returns."""
        return await self._in_thread(
            lambda: self._loaded().delete(
                index, ids=ids, filter=filter, delete_all=delete_all, namespace=namespace or ""
            ),
            timeout_seconds=context.timeout_seconds,
        )

    async def describe(self, index: str) -> IndexInfo:
        """See the port."""
        return await self._in_thread(lambda: self._loaded().describe(index), timeout_seconds=None)

    async def _in_thread(self, work: Callable[[], T], *, timeout_seconds: float | None) -> T:
        if self._thread is None:
            raise TemporaryError("connection", "the embedded vector store is not open")
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._thread, in_short_turns, work)
        except CallError:
            raise
        except TimeoutError:
            raise TemporaryError(
                "timeout", f"the embedded vector store took longer than {timeout_seconds} s; try again"
            ) from None
        except sqlite3.Error as error:
            raise _mapped(error) from error

    def _open_file(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(OSError):  # SQLite tells better why it cannot be opened
            self._path.touch(mode=0o600)  # for its owner only; SQLite's side files take the mode over
        self._file = VectorFile(self._path)

    def _close_file(self) -> None:
        self._engine = None
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _opened(self) -> VectorFile:
        if self._file is None:
            raise TemporaryError("connection", "the embedded vector store is not open")
        return self._file

    def _loaded(self) -> VectorEngine:
        if self._engine is None:
            from app.stores.vector_engine import VectorEngine  # noqa: PLC0415 - imports numpy, see above

            self._engine = VectorEngine(self._opened(), cache_bytes=self._cache_bytes)
        return self._engine


def _mapped(error: sqlite3.Error) -> CallError:
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if name in _LOST_FILE:
        return PermanentError("internal", f"the embedded vector store's file is damaged ({name}); restore it")
    return TemporaryError("server_error", f"the embedded vector store cannot do this now ({name})")
