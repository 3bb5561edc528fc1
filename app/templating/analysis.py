"""Decides what a template's syntax tree may do, what it refers to, and whether it is provably linear.

A template is linear (`inline`) when its cost is bounded by its source times its data: paths, comparisons,
`and`/`or`/`not`, conditions, two levels of `for`, the filters and tests of this package, and arithmetic
on what can only be numbers. Everything else needs a worker. A statement that is not listed here is
refused; so are macros, includes, imports and inheritance, because a template is one text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

from jinja2 import nodes

from app.templating.expressions import Expressions, operation
from app.templating.names import RESERVED, Names
from app.templating.scope import CALLABLE_NAMES

MAX_INLINE_LOOPS: Final = 2


class Analysis(Expressions):
    """One pass over one tree, which it rewrites."""

    def __init__(self, names: Names) -> None:
        super().__init__(names)
        self._loops = 0

    def text(self, tree: nodes.Template) -> nodes.Template:
        """Rewrite a template that yields text."""
        self._block(tree.body)
        return tree

    def expression(self, node: nodes.Expr, outcome: str) -> nodes.Template:
        """Rewrite one expression to a template that yields its value through an operator."""
        return nodes.Template([nodes.Output([operation(self._expr(node), outcome)])])

    def _block(self, body: Iterable[nodes.Node]) -> None:
        for node in body:
            self._seen += 1
            handler = self._statements.get(type(node))
            if handler:
                handler(self, node)
            else:
                self._refuse(node)

    def _scoped(self, body: Iterable[nodes.Node], *names: str) -> None:
        self._bound.append(set(names))
        self._block(body)
        self._bound.pop()

    def _output(self, node: nodes.Output) -> None:
        node.nodes = [
            child if isinstance(child, nodes.TemplateData) else operation(self._expr(child), "write")
            for child in node.nodes
        ]

    def _for(self, node: nodes.For) -> None:
        iterated = self._expr(node.iter)
        before = self._seen
        targets = self._targets(node.target)
        outer, self._recursive = self._recursive, node.recursive
        self._loops += 1
        if self._loops > MAX_INLINE_LOOPS or node.recursive:
            self.inline = False
        if node.test is not None:
            self._bound.append(set(targets))
            node.test = self._expr(node.test)
            self._bound.pop()
        self._scoped(node.body, *targets, "loop")
        self._loops -= 1
        self._recursive = outer
        node.iter = operation(iterated, "each", self._seen - before + 1)
        self._scoped(node.else_)

    def _if(self, node: nodes.If) -> None:
        node.test = self._expr(node.test)
        self._block(node.body)
        for branch in node.elif_:
            self._if(branch)
        self._block(node.else_)

    def _with(self, node: nodes.With) -> None:
        self.inline = False
        node.values = [self._expr(value) for value in node.values]
        names = [name for target in node.targets for name in self._targets(target)]
        self._scoped(node.body, *names)

    def _assign(self, node: nodes.Assign) -> None:
        self.inline = False
        node.node = self._expr(node.node)
        self._bound[-1].update(self._targets(node.target))

    def _assign_block(self, node: nodes.AssignBlock) -> None:
        self.inline = False
        self._scoped(node.body)
        if node.filter is not None:
            self._filter(node.filter)
        self._bound[-1].update(self._targets(node.target))

    def _filter_block(self, node: nodes.FilterBlock) -> None:
        self.inline = False
        self._filter(node.filter)
        self._scoped(node.body)

    def _targets(self, target: nodes.Node) -> list[str]:
        if isinstance(target, nodes.Tuple):
            return [name for part in target.items for name in self._targets(part)]
        if isinstance(target, nodes.NSRef):
            if not self._is_bound(target.name):
                self._report(
                    f"{target.name!r} is no namespace of this template",
                    f"first write {{% set {target.name} = namespace() %}}",
                    target,
                )
            return []
        if not isinstance(target, nodes.Name):
            self._refuse(target)
            return []
        if target.name in RESERVED or target.name in CALLABLE_NAMES:
            self._report(
                f"{target.name!r} is a name of the workflow", "give the variable another name", target
            )
        return [target.name]

    _statements: ClassVar[Mapping[type[nodes.Node], Callable[[Any, Any], None]]] = {
        nodes.Output: _output,
        nodes.For: _for,
        nodes.If: _if,
        nodes.With: _with,
        nodes.Assign: _assign,
        nodes.AssignBlock: _assign_block,
        nodes.FilterBlock: _filter_block,
    }
