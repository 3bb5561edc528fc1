"""One instance's API as its adapter uses it: calls, answers read, and failures in our words.

An adapter maps requests out and answers in; all that is the same for every vendor happens here: a status
that is no success becomes a permanent or temporary error (the vendor's own codes first, then the status),
an answer that cannot be read becomes `invalid_output`, a request that cannot be written `invalid_request`.
What does not belong here: retries, limits, metrics, and any vendor's words.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from app.ports.errors import CallError, ErrorClass, PermanentError, TemporaryError
from app.ports.http import HttpResponse
from app.ports.models import CallContext
from app.ports.retry_after import LONGEST
from app.ports.turns import computed
from app.providers.failures import CREDENTIAL_STATUSES, from_status, refused_credentials
from app.providers.json_api import Endpoint, JsonApi, Method
from app.providers.json_format import (
    CHECK_ADDRESS,
    Malformed,
    VendorError,
    is_page,
    load,
    load_any,
    load_list,
)
from app.providers.sse import EventParser
from app.providers.transport import MAX_ANSWER_BYTES, StreamedAnswer, Transport

DONE: Final = b"[DONE]"
"""What ends the event streams of many vendors."""
LARGEST_COMPLAINT: Final = 1024 * 1024
"""Bytes. An error that is longer says nothing that is worth looking for."""
MANY: Final = 32
"""From so many texts on, their vectors are read beside the event loop: each may take 0.1 ms and more."""
_STATUSES: Final = frozenset(str(status) for status in range(400, 600))

P = ParamSpec("P")
T = TypeVar("T")


class ReadError(Protocol):
    """Finds the error in an answer, or None if it holds none."""

    def __call__(self, answer: dict[str, Any], /) -> VendorError | None: ...


class StreamParser(Protocol):
    """Cuts a stream into payloads."""

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        """What this chunk completes."""
        ...

    def finish(self) -> Iterator[bytes]:
        """What is left at the end."""
        ...


class Classify(Protocol):
    """The class of an error that trying again cannot help, from the vendor's own words; else None.

    The exception is `invalid_output`, which is always temporary.
    """

    def __call__(self, status: int, error: VendorError, /) -> ErrorClass | None: ...


class VendorApi:
    """Calls one instance. Every method raises `PermanentError` or `TemporaryError` and nothing else."""

    def __init__(
        self, transport: Transport, endpoint: Endpoint, *, read_error: ReadError, classify: Classify
    ) -> None:
        """Raises `ValueError` for a base URL that is none."""
        self.instance = endpoint.instance
        self._api = JsonApi(transport, endpoint)
        self._read_error = read_error
        self._classify = classify

    async def post(
        self, path: str, body: bytes, context: CallContext, *, max_bytes: int = MAX_ANSWER_BYTES
    ) -> dict[str, Any]:
        """Post JSON; the object that a success carries, in at most `max_bytes`."""
        answer = await self._exchange("POST", path, body, context, max_bytes)
        return self.success(answer.headers, answer.content)

    async def call(
        self,
        method: Method,
        path: str,
        body: bytes | None,
        context: CallContext,
        *,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> dict[str, Any]:
        """Make one request; the object that a success carries, `{}` for an empty body.

        `path` is appended to the base URL as it is: quote what callers put into it.
        """
        answer = await self._exchange(method, path, body, context, max_bytes)
        return self.success(answer.headers, answer.content) if answer.content else {}

    async def post_for_list(self, path: str, body: bytes, context: CallContext) -> list[Any]:
        """Post JSON; the list that a success carries where a server puts no object around it."""
        answer = await self._exchange("POST", path, body, context)
        return self.read(load_list, answer.content)

    async def get_list(self, path: str, context: CallContext) -> list[Any]:
        """Get JSON; the list that a success carries where a server puts no object around it."""
        answer = await self._exchange("GET", path, None, context)
        return self.read(load_list, answer.content)

    async def get_value(self, path: str, context: CallContext) -> Any:
        """Get JSON; the value that a success carries where it is neither an object nor a list."""
        answer = await self._exchange("GET", path, None, context)
        return self.read(load_any, answer.content)

    @asynccontextmanager
    async def stream(
        self, path: str, body: bytes, context: CallContext, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[StreamedAnswer]:
        """Post JSON; a success as it arrives. Leaving the context aborts what is left of it."""
        own = {"idempotency-key": context.idempotency_key}
        async with self._api.stream(
            path,
            body,
            headers={**own, **headers} if headers else own,
            timeout_seconds=context.timeout_seconds,
        ) as answer:
            if not 200 <= answer.status < 300:  # noqa: PLR2004  the successes of HTTP
                raise self.failure(answer.status, answer.headers, await answer.read())
            yield answer

    async def events(
        self, answer: StreamedAnswer, parser: StreamParser | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON objects of a stream, up to `[DONE]` or its end: of server-sent events, unless cut by
        another parser.
        """
        parser = parser or EventParser()
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                for data in parser.feed(chunk):
                    if data == DONE:
                        return
                    yield self.success(answer.headers, data)
        for data in parser.finish():
            if data != DONE:
                yield self.success(answer.headers, data)

    def success(self, headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
        """The object that a success carries; some servers put an error into it."""
        answer = self.read(load, content)
        error = self._read_error(answer)
        if error is None:
            return answer
        raise self._complaint(int(error.code) if error.code in _STATUSES else 500, headers, error)

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> CallError:
        """What an answer that is no success means."""
        error = None
        if len(content) <= LARGEST_COMPLAINT:
            with suppress(Malformed):
                error = self._read_error(_only(load_any(content)))
        if error is None:
            said = f"it sent a web page; {CHECK_ADDRESS}" if is_page(content) else "no reason was given"
            return from_status(status, headers, said, instance=self.instance)
        return self._complaint(status, headers, error)

    def ended_early(self) -> TemporaryError:
        """A stream that stopped before its answer was whole."""
        return TemporaryError("connection", f"the stream of instance {self.instance!r} ended early")

    def quote(self, said: object) -> str:
        """A vendor's own words, fit to be shown: short, on one line and without our credentials."""
        return self._api.quote(said)

    def read(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a reader; what it cannot understand is `TemporaryError` of class `invalid_output`."""
        try:
            return read(*args, **kwargs)
        except Malformed as error:
            # it may repeat what the server said
            message = f"the answer of instance {self.instance!r} cannot be used: {self.quote(error)}"
            raise TemporaryError("invalid_output", message) from None

    async def read_many(self, count: int, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for the answer about so many texts: the event loop does not wait for large ones."""
        if count < MANY:
            return self.read(read, *args, **kwargs)
        return await computed(self.read, partial(read, *args, **kwargs))

    def written(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a writer; its `ValueError` is a `PermanentError` of class `invalid_request`."""
        try:
            return write(*args, **kwargs)
        except ValueError as error:
            raise PermanentError("invalid_request", str(error)) from None

    def check_count(self, count: int, most: int, what: str) -> None:
        """Raise `PermanentError` for more than one call takes; `what` is counted."""
        if count > most:
            message = f"instance {self.instance!r} takes at most {most} {what} in one call"
            raise PermanentError("invalid_request", message)

    def lacks_key(self) -> PermanentError:
        """The error for a vendor that is known to answer nobody without a key: it need not be asked."""
        message = f"instance {self.instance!r} has no API key; ask the operator to configure one"
        return PermanentError("authentication", message)

    async def _exchange(
        self,
        method: Method,
        path: str,
        body: bytes | None,
        context: CallContext,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> HttpResponse:
        answer = await self._api.request(
            method,
            path,
            body,
            headers={"idempotency-key": context.idempotency_key},
            timeout_seconds=context.timeout_seconds,
            max_bytes=max_bytes,
        )
        if not 200 <= answer.status < 300:  # noqa: PLR2004  the successes of HTTP
            raise self.failure(answer.status, answer.headers, answer.content)
        return answer

    def _complaint(self, status: int, headers: Mapping[str, str], error: VendorError) -> CallError:
        said = self.quote(error.message)
        error_class = self._classify(status, error)
        if error_class == "authentication" and status not in CREDENTIAL_STATUSES:
            return refused_credentials(status, instance=self.instance)
        if error_class == "invalid_output":  # the model's fault: it may answer better
            message = f"instance {self.instance!r} could not use its model's answer ({status}): {said}"
            return TemporaryError(error_class, message, status=status)
        if error_class is None or error_class == "authentication":
            failure = from_status(status, headers, said, instance=self.instance)
            if isinstance(failure, TemporaryError) and failure.retry_after is None and error.retry_after:
                failure.retry_after = min(error.retry_after, LONGEST)
            return failure
        message = f"instance {self.instance!r} refused the request ({status}): {said}"
        return PermanentError(error_class, message, status=status)


def by_status(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`: of vendors whose statuses say it all."""
    del status, error
    return None


def _only(value: object) -> dict[str, Any]:
    """The object that an error is in; some servers put that of a stream into a list."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        raise Malformed("it is not a JSON object")
    return value
