"""The Jinja2 environment templates run in, and the way from a checked syntax tree to a function.

Jinja2's own sandbox is the second line of defence: what the analysis lets through reads no attribute of
any object. Nothing is evaluated while compiling, so that `{{ 'a' * 10 ** 9 }}` costs nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from jinja2 import filters as jinja_filters
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.nodes import EvalContext
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.templating.filters import FILTERS
from app.templating.missing import Missing
from app.templating.operators import OPERATORS
from app.templating.predicates import TESTS
from app.templating.scope import CALLABLE_NAMES, Scope
from app.templating.values import follow

Root = Callable[[Scope], Iterator[Any]]
"""A loaded template: yields the pieces of its text, or the one native value."""

WORKER_FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "batch": jinja_filters.do_batch,
    "center": jinja_filters.do_center,
    "dictsort": jinja_filters.do_dictsort,
    "e": jinja_filters.do_forceescape,
    "escape": jinja_filters.do_forceescape,
    "filesizeformat": jinja_filters.do_filesizeformat,
    "format": jinja_filters.do_format,
    "groupby": jinja_filters.sync_do_groupby,
    "slice": jinja_filters.sync_do_slice,
    "sort": jinja_filters.do_sort,
    "striptags": jinja_filters.do_striptags,
    "unique": jinja_filters.sync_do_unique,
    "urlencode": jinja_filters.do_urlencode,
    "wordwrap": jinja_filters.do_wordwrap,
}
"""Filters whose cost is not linear, or not known: only ever in a worker."""


class _Generator(CodeGenerator):
    """Writes native values out as they are, and evaluates nothing at compile time."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if isinstance(node, nodes.TemplateData):
            return node.data
        raise nodes.Impossible

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write("(")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write(")")


class Sandbox(ImmutableSandboxedEnvironment):
    """Data only: `.` and `[]` look up keys, and calls reach three functions at most."""

    code_generator_class = _Generator

    def __init__(self) -> None:
        super().__init__(
            undefined=Missing, optimized=False, autoescape=False, keep_trailing_newline=True, cache_size=0
        )
        self.filters = {**WORKER_FILTERS, **FILTERS, **OPERATORS}
        self.tests = dict(TESTS)
        self.globals = {}
        self.evaluation = EvalContext(self)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Reach into data by key or index."""
        if not isinstance(argument, (str, int)):
            raise SecurityError("a look-up takes a name or an index")
        return follow(obj, (argument,), "(item)")

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The same as `getitem`: data has no attributes."""
        return self.getitem(obj, attribute)

    def call(self, _context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call `range`, `namespace`, or a recursive loop."""
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        if isinstance(function, LoopContext) or any(function is known for known in CALLABLE_NAMES.values()):
            return function(*args, **kwargs)
        raise SecurityError("a template calls no functions of its data")


def load(sandbox: Sandbox, tree: nodes.Template) -> Root:
    """Turn a checked and rewritten tree into a function.

    Raises what Jinja2 and Python's compiler raise: `TemplateError`, `SyntaxError`, `RecursionError`.
    """
    generator = _Generator(sandbox, None, None, optimized=False)
    generator.visit(tree)
    code = compile(generator.stream.getvalue(), "<template>", "exec")  # type: ignore[attr-defined]  # a StringIO
    names: dict[str, Any] = {"environment": sandbox}
    exec(code, names)  # noqa: S102  # generated from a syntax tree of which every node was checked
    root: Root = names["root"]
    return root
