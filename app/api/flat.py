"""Routes whose handlers are called without FastAPI's dependency solver, some 90 µs of each.

FastAPI still makes the OpenAPI document, the parameters and the body's model out of the handler's
signature; only calling it is done here: dependencies of the request alone, path parameters, one JSON
body. A handler that asks for more is refused when the route is made.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.bodies import StrictRequest, StrictRoute, require_json

Handler = Callable[[StrictRequest], Coroutine[Any, Any, Response]]


class FlatRoute(StrictRoute):
    """A `StrictRoute` for the operations that are called thousands of times a second.

    Errors pass to the application's own handlers; nothing of a request waits for an exit stack.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        handle = self._handler()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await handle(StrictRequest(scope, receive, send))
            await response(scope, receive, send)

        self.app = app

    def _handler(self) -> Handler:
        """The call, with everything that can be looked up looked up."""
        body_field = _check_flat(self)
        endpoint: Any = self.dependant.call
        wanted = self.dependant.request_param_name
        dependencies: list[tuple[Any, Any]] = [(it.name, it.call) for it in self.dependant.dependencies]
        path = [(field.name, field.alias, field) for field in self.dependant.path_params]

        async def handle(request: StrictRequest) -> Response:
            require_json(request)
            body = await request.json() if await request.body() else None
            values: dict[str, Any] = {}
            errors: list[Any] = []
            for name, call in dependencies:
                values[name] = await call(request)
            for name, alias, field in path:
                values[name], found = field.validate(request.path_params[alias], {}, loc=("path", alias))
                errors += found or ()
            if body is None:
                errors.append({"type": "missing", "loc": ("body",), "msg": "Field required", "input": None})
            else:
                values[body_field.name], found = body_field.validate(body, {}, loc=("body",))
                errors += found or ()
            if errors:
                raise RequestValidationError(errors, body=body)
            if wanted is not None:
                values[wanted] = request
            answer: Response = await endpoint(**values)
            return answer

        return handle


def _check_flat(route: StrictRoute) -> Any:
    """The field of the body. Raises `TypeError` unless the handler asks for what `FlatRoute` gives."""
    dependant = route.dependant
    flat = (
        route.body_field is not None
        and not dependant.query_params
        and not dependant.header_params
        and not dependant.cookie_params
        and all(
            it.request_param_name is not None
            and not (it.dependencies or it.path_params or it.query_params or it.header_params)
            for it in dependant.dependencies
        )
    )
    if not flat:
        raise TypeError(f"{route.path!r} asks for more than a flat route gives; use StrictRoute")
    return route.body_field
