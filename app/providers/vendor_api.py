"""One instance's API as its adapter uses it: calls, answers read, and failures in our words.

An adapter maps requests out and answers in; all that is the same for every vendor happens here: a status
that is no success becomes a permanent or temporary error (the vendor's own codes first, then the status),
an answer that cannot be read becomes `invalid_output`, a request that cannot be written `invalid_request`.
What does not belong here: retries, limits, metrics, and any vendor's words.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from app.ports.errors import CallError, ErrorClass, PermanentError, TemporaryError
from app.ports.http import HttpResponse
from app.ports.models import CallContext
from app.providers.failures import CREDENTIAL_STATUSES, from_status, refused_credentials
from app.providers.json_api import Endpoint, JsonApi, Method
from app.providers.json_format import Malformed, VendorError, load, load_any, load_list
from app.providers.sse import EventParser
from app.providers.transport import StreamedAnswer, Transport

DONE: Final = b"[DONE]"
"""What ends the event streams of many vendors."""
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
        self, path: str, body: bytes, context: CallContext, *, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Post JSON; the object that a success carries."""
        return await self.call("POST", path, body, context, headers=headers)

    async def call(
        self,
        method: Method,
        path: str,
        body: bytes | None,
        context: CallContext,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Make one request; the object that a success carries, `{}` for an empty body.

        `path` is appended to the base URL as it is: quote what callers put into it.
        """
        answer = await self._exchange(method, path, body, context, headers)
        return self.success(answer.headers, answer.content) if answer.content else {}

    async def post_for_list(self, path: str, body: bytes, context: CallContext) -> list[Any]:
        """Post JSON; the list that a success carries where a server puts no object around it."""
        answer = await self._exchange("POST", path, body, context, None)
        return self.read(load_list, answer.content)

    async def get_list(self, path: str, context: CallContext) -> list[Any]:
        """Get JSON; the list that a success carries where a server puts no object around it."""
        answer = await self._exchange("GET", path, None, context, None)
        return self.read(load_list, answer.content)

    async def get_value(self, path: str, context: CallContext) -> Any:
        """Get JSON; the value that a success carries where it is neither an object nor a list."""
        answer = await self._exchange("GET", path, None, context, None)
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
        try:
            error = self._read_error(_only(load_any(content)))
        except Malformed:
            error = None
        if error is None:
            return from_status(status, headers, "no reason was given", instance=self.instance)
        return self._complaint(status, headers, error)

    def ended_early(self) -> TemporaryError:
        """A stream that stopped before its answer was whole."""
        return TemporaryError("connection", f"the stream of instance {self.instance!r} ended early")

    def read(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a reader; what it cannot understand is `TemporaryError` of class `invalid_output`."""
        try:
            return read(*args, **kwargs)
        except Malformed as error:
            message = f"the answer of instance {self.instance!r} cannot be used: {error}"
            raise TemporaryError("invalid_output", message) from None

    def written(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a writer; its `ValueError` is a `PermanentError` of class `invalid_request`."""
        try:
            return write(*args, **kwargs)
        except ValueError as error:
            raise PermanentError("invalid_request", str(error)) from None

    async def _exchange(
        self,
        method: Method,
        path: str,
        body: bytes | None,
        context: CallContext,
        headers: Mapping[str, str] | None,
    ) -> HttpResponse:
        own = {"idempotency-key": context.idempotency_key}
        answer = await self._api.request(
            method,
            path,
            body,
            headers={**own, **headers} if headers else own,
            timeout_seconds=context.timeout_seconds,
        )
        if not 200 <= answer.status < 300:  # noqa: PLR2004  the successes of HTTP
            raise self.failure(answer.status, answer.headers, answer.content)
        return answer

    def _complaint(self, status: int, headers: Mapping[str, str], error: VendorError) -> CallError:
        said = self._api.quote(error.message)
        error_class = self._classify(status, error)
        if error_class == "authentication" and status not in CREDENTIAL_STATUSES:
            return refused_credentials(status, instance=self.instance)
        if error_class == "invalid_output":  # the model's fault: it may answer better
            message = f"instance {self.instance!r} could not use its model's answer ({status}): {said}"
            return TemporaryError(error_class, message, status=status)
        if error_class is None or error_class == "authentication":
            failure = from_status(status, headers, said, instance=self.instance)
            if isinstance(failure, TemporaryError) and failure.retry_after is None:
                failure.retry_after = error.retry_after
            return failure
        message = f"instance {self.instance!r} refused the request ({status}): {said}"
        return PermanentError(error_class, message, status=status)


def _only(value: object) -> dict[str, Any]:
    """The object that an error is in; some servers put that of a stream into a list."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        raise Malformed("it is not a JSON object")
    return value
