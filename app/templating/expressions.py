"""Rewrites the expressions of a template, and records what they refer to.

Every look-up, comparison and calculation becomes one of the operators, which check their data and pay
for their work. A kind of node that is not listed here is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from jinja2 import nodes

from app.templating import advice
from app.templating.filters import FILTERS
from app.templating.findings import Finding
from app.templating.limits import MAX_INTEGER
from app.templating.missing import Key
from app.templating.names import Names, Reference
from app.templating.operators import LOOP_METHODS, TEXT_METHODS
from app.templating.predicates import TESTS
from app.templating.sandbox import WORKER_FILTERS
from app.templating.scope import CALLABLE_NAMES

_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER_FILTERS = frozenset({"int", "float", "length", "count", "round", "abs", "sum", "wordcount"})
_LOOP_NUMBERS = frozenset({"index", "index0", "revindex", "revindex0", "length"})
_TEST_POSITION = {"select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}
_OPERATORS = {
    nodes.Add: "+",
    nodes.Sub: "-",
    nodes.Mul: "*",
    nodes.Div: "/",
    nodes.FloorDiv: "//",
    nodes.Mod: "%",
    nodes.Pow: "**",
}


def operation(node: nodes.Expr | None, name: str, *args: Any) -> nodes.Filter:
    """An operator applied to a node; arguments that are no nodes are constants."""
    arguments = [arg if isinstance(arg, nodes.Expr) else nodes.Const(arg) for arg in args]
    return nodes.Filter(node, f"${name}", arguments, [], None, None)


def constant_key(node: nodes.Node) -> Key | None:
    """The key of `x.key`, `x['key']`, `x[0]` and `x[-1]`, or None for a computed one."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    arg = node.arg if isinstance(node, nodes.Getitem) else None
    sign = 1
    if isinstance(arg, nodes.Neg):
        sign, arg = -1, arg.node
    if isinstance(arg, nodes.Const):
        if type(arg.value) is int:
            return sign * arg.value
        if isinstance(arg.value, str) and sign == 1:
            return arg.value
    return None


class Expressions:
    """The part of one pass over a tree that looks at expressions; `inline` turns false where it must."""

    def __init__(self, names: Names) -> None:
        self.references: set[Reference] = set()
        self.findings: list[Finding] = []
        self.inline = True
        self._names = names
        self._bound: list[set[str]] = [set()]
        self._recursive = False
        self._seen = 0

    def _expr(self, node: Any) -> nodes.Expr:
        self._seen += 1
        handler = self._expressions.get(type(node))
        if handler:
            rewritten: nodes.Expr = handler(self, node)
            return rewritten
        self._refuse(node)
        return nodes.Const(None)

    def _const(self, node: nodes.Const) -> nodes.Expr:
        value = node.value
        self._check_text(value, node)
        if isinstance(value, float) and not math.isfinite(value):
            self._report("a number of the template is too large", None, node)
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            self._report("a whole number of the template has more than 64 bits", None, node)
        return node

    def _name(self, node: nodes.Name, parts: tuple[str, ...] = ()) -> nodes.Expr:
        name = node.name
        if self._is_bound(name):
            return node
        if name == "null" and not self._names.allows(name):
            return nodes.Const(None)
        if name == "input" and not self._names.allows(name):
            name = "inputs"
        if not self._names.allows(name):
            self.findings.append(self._names.refuse(name, node.lineno))
            return nodes.Const(None)
        self.references.add(Reference(name, parts))
        return nodes.Name(name, "load", lineno=node.lineno)

    def _path(self, node: nodes.Expr) -> nodes.Expr:
        keys: list[Key] = []
        base: nodes.Expr = node
        while (key := constant_key(base)) is not None and isinstance(base, (nodes.Getattr, nodes.Getitem)):
            self._check_text(key, node)
            keys.insert(0, key)
            base = base.node
            self._seen += 1
        if not keys:
            return self._computed_item(node)
        if not isinstance(base, nodes.Name):
            return operation(self._expr(base), "dig", tuple(keys), "(value)")
        texts = []
        for key in keys:
            if not isinstance(key, str):
                break
            texts.append(key)
        root = self._name(base, tuple(texts))
        label = root.name if isinstance(root, nodes.Name) else base.name
        return operation(root, "dig", tuple(keys), label)

    def _computed_item(self, node: Any) -> nodes.Expr:
        value = self._expr(node.node)
        if isinstance(node.arg, nodes.Slice):
            bounds = (node.arg.start, node.arg.stop, node.arg.step)
            return operation(
                value, "cut", *(None if bound is None else self._expr(bound) for bound in bounds)
            )
        label = node.node.name if isinstance(node.node, nodes.Name) else "(value)"
        return operation(value, "item", self._expr(node.arg), label)

    def _filter(self, node: nodes.Filter) -> nodes.Expr:
        if node.name in WORKER_FILTERS:
            self.inline = False
        elif node.name not in FILTERS:
            known = {*FILTERS, *WORKER_FILTERS}
            self._report(f"unknown filter {node.name!r}", advice.on_filter(node.name, known), node)
        self._check_named_function(node)
        if node.node is not None:
            node.node = self._expr(node.node)
        self._arguments(node)
        return node

    def _check_named_function(self, node: nodes.Filter) -> None:
        """`map('upper')` and `select('odd')` name a filter or test, which must be known beforehand."""
        position = 0 if node.name == "map" else _TEST_POSITION.get(node.name)
        if position is None or len(node.args) <= position:
            return
        arg = node.args[position]
        name = arg.value if isinstance(arg, nodes.Const) else None
        known = {*FILTERS, *WORKER_FILTERS} if node.name == "map" else set(TESTS)
        if not isinstance(name, str) or name not in known:
            what = "filter" if node.name == "map" else "test"
            self._report(f"{node.name} does not know this {what}", f"name a {what} in quotes", node)
        elif name in WORKER_FILTERS and node.name == "map":
            self.inline = False

    def _test(self, node: nodes.Test) -> nodes.Expr:
        if node.name not in TESTS:
            self._report(f"unknown test {node.name!r}", advice.nearest(node.name, TESTS), node)
        node.node = self._expr(node.node)
        self._arguments(node)
        return node

    def _arguments(self, node: Any) -> None:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            self._report("arguments cannot be unpacked with * or **", "write each argument", node)
        node.args = [self._expr(arg) for arg in node.args]
        for keyword in node.kwargs:
            keyword.value = self._expr(keyword.value)

    def _call(self, node: nodes.Call) -> nodes.Expr:
        called = node.node
        self._arguments(node)
        if isinstance(called, nodes.Getattr):
            return self._method(node, called)
        self.inline = False
        name = called.name if isinstance(called, nodes.Name) else None
        bound = name is not None and (self._is_bound(name) or self._names.allows(name))
        if (name in CALLABLE_NAMES and not bound) or (name == "loop" and self._recursive):
            return node
        hint = f"write a filter: {{{{ value | {name} }}}}" if name in FILTERS else None
        self._report(f"{name or 'a value'!r} cannot be called", hint, node)
        return nodes.Const(None)

    def _method(self, node: nodes.Call, called: nodes.Getattr) -> nodes.Expr:
        name = called.attr
        on_loop = (
            isinstance(called.node, nodes.Name) and called.node.name == "loop" and self._is_bound("loop")
        )
        if name not in TEXT_METHODS and not (on_loop and name in LOOP_METHODS):
            self._report(f"the method {name!r} cannot be called", advice.on_method(name, FILTERS), node)
        self.inline = False
        call = operation(self._expr(called.node), "method", name, *node.args)
        call.kwargs = node.kwargs  # type: ignore[assignment]  # Jinja2 declares keywords as pairs
        return call

    def _compare(self, node: nodes.Compare) -> nodes.Expr:
        names = tuple(operand.op for operand in node.ops)
        others = [self._expr(operand.expr) for operand in node.ops]
        return operation(self._expr(node.expr), "compare", names, *others)

    def _arithmetic(self, node: Any) -> nodes.Expr:
        if isinstance(node, nodes.Pow) or not self._is_number(node):
            self.inline = False
        left, right = self._expr(node.left), self._expr(node.right)
        return operation(left, "calculate", _OPERATORS[type(node)], right)

    def _logic(self, node: Any) -> nodes.Expr:
        node.left, node.right = self._expr(node.left), self._expr(node.right)
        rewritten: nodes.Expr = node
        return rewritten

    def _unary(self, node: Any) -> nodes.Expr:
        inner = self._expr(node.node)
        if isinstance(node, nodes.Not):
            node.node = inner
            return node
        negated = operation(inner, "negate")
        return negated if isinstance(node, nodes.Neg) else operation(negated, "negate")

    def _either(self, node: nodes.CondExpr) -> nodes.Expr:
        node.test, node.expr1 = self._expr(node.test), self._expr(node.expr1)
        node.expr2 = nodes.Const(None) if node.expr2 is None else self._expr(node.expr2)
        return node

    def _concat(self, node: nodes.Concat) -> nodes.Expr:
        parts = [self._expr(part) for part in node.nodes]
        return operation(parts[0], "join", *parts[1:])

    def _sequence(self, node: Any) -> nodes.Expr:
        return nodes.List([self._expr(part) for part in node.items])

    def _dict(self, node: nodes.Dict) -> nodes.Expr:
        for pair in node.items:
            pair.key, pair.value = self._expr(pair.key), self._expr(pair.value)
        return node

    # what is known of names and types

    def _is_bound(self, name: str) -> bool:
        return any(name in names for names in self._bound)

    def _is_number(self, node: nodes.Node) -> bool:
        if isinstance(node, nodes.Const):
            return type(node.value) in {int, float}
        if isinstance(node, (nodes.Neg, nodes.Pos)):
            return self._is_number(node.node)
        if isinstance(node, nodes.BinExpr):
            return type(node) in _OPERATORS and self._is_number(node.left) and self._is_number(node.right)
        if isinstance(node, nodes.Getattr):
            loop = isinstance(node.node, nodes.Name) and node.node.name == "loop" and self._is_bound("loop")
            return loop and node.attr in _LOOP_NUMBERS
        return isinstance(node, nodes.Filter) and node.name in _NUMBER_FILTERS

    def _check_text(self, value: Any, node: nodes.Node) -> None:
        if isinstance(value, str) and ("\x00" in value or _SURROGATE.search(value)):
            self._report("a text of the template has a character that JSON cannot carry", None, node)

    def _report(self, detail: str, hint: str | None, node: nodes.Node) -> None:
        self.findings.append(Finding(detail, hint, node.lineno))

    def _refuse(self, node: nodes.Node) -> None:
        word = {"CallBlock": "call", "FromImport": "from", "Scope": "autoescape"}.get(
            type(node).__name__, type(node).__name__.lower()
        )
        self._report(f"{word!r} is not part of templates", "use for, if, set, with and filters", node)

    _expressions: ClassVar[Mapping[type[nodes.Node], Callable[[Any, Any], nodes.Expr]]] = {
        nodes.Const: _const,
        nodes.Name: _name,
        nodes.Getattr: _path,
        nodes.Getitem: _path,
        nodes.Filter: _filter,
        nodes.Test: _test,
        nodes.Call: _call,
        nodes.Compare: _compare,
        **dict.fromkeys(_OPERATORS, _arithmetic),
        nodes.And: _logic,
        nodes.Or: _logic,
        nodes.Not: _unary,
        nodes.Neg: _unary,
        nodes.Pos: _unary,
        nodes.CondExpr: _either,
        nodes.Concat: _concat,
        nodes.List: _sequence,
        nodes.Tuple: _sequence,
        nodes.Dict: _dict,
    }
