"""One template of a document: what it reads, whether it may render on the event loop, and its function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from jinja2 import nodes
from jinja2.exceptions import TemplateError

from app.templating.analysis import Analysis
from app.templating.findings import Finding, Refused
from app.templating.names import Names, Reference
from app.templating.sandbox import Root, Sandbox, load
from app.templating.scope import Scope
from app.templating.source import parse

Use = Literal["field", "expression", "condition"]
"""A field is text, or one expression with a native value; an expression is always the latter; a condition
is an expression of which only the truth counts."""

_DATA_NODES: Final = (
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Slice,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Compare,
    nodes.Operand,
    nodes.CondExpr,
)
_DATA_FILTERS: Final = frozenset(
    {"d", "default", "first", "last", "upper", "lower", "trim", "length", "count"}
)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A template that is ready to render."""

    root: Root
    native: bool
    """It yields one value, not the pieces of a text."""
    inline: bool
    """Its cost is provably linear."""
    references: frozenset[Reference]

    def render(self, scope: Scope) -> object:
        """The text or value. Raises anything; `render_failure` puts it into words."""
        if self.native:
            return next(self.root(scope))
        pieces: list[str] = []
        for piece in self.root(scope):
            scope.write(len(piece))
            pieces.append(piece)
        return "".join(pieces)


def read(sandbox: Sandbox, source: str, use: Use, names: Names) -> Loaded:
    """Parse, check and load a template whose size was measured. Raises `Refused` with every finding."""
    tree = parse(sandbox, source)
    single = _single_expression(tree)
    analysis = Analysis(names)
    if single is not None:
        outcome = "truth" if use == "condition" else "whole" if _is_data(single) else "made"
        tree = analysis.expression(single, outcome)
    elif use == "field":
        tree = analysis.text(tree)
    else:
        raise Refused([Finding("this is not one expression", "write one, such as inputs.enable == true")])
    if analysis.findings:
        raise Refused(analysis.findings)
    try:
        root = load(sandbox, tree)
    except (TemplateError, SyntaxError, RecursionError, MemoryError) as error:
        raise Refused([Finding(f"the template cannot be compiled: {error}", "simplify it")]) from error
    return Loaded(root, single is not None, analysis.inline, frozenset(analysis.references))


def _single_expression(tree: nodes.Template) -> nodes.Expr | None:
    """The expression of a template that is nothing else, but for a line end after it."""
    if len(tree.body) != 1 or not isinstance(tree.body[0], nodes.Output):
        return None
    first, *rest = tree.body[0].nodes
    if isinstance(first, nodes.TemplateData):
        return None
    line_end = len(rest) == 1 and isinstance(rest[0], nodes.TemplateData) and rest[0].data == "\n"
    return first if not rest or line_end else None


def _is_data(expression: nodes.Expr) -> bool:
    """Whether the value is a piece of the data as it was found, with nothing built around it."""
    pending: list[nodes.Node] = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, nodes.Filter):
            if node.name not in _DATA_FILTERS:
                return False
        elif not isinstance(node, _DATA_NODES):
            return False
        pending.extend(node.iter_child_nodes())
    return True
