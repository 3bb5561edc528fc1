"""From a template's source to a syntax tree, within bounds.

Jinja2's lexer is linear and its parser recursive, so tokens are counted and nesting is measured before
the parser sees them, and the tree's depth before anything else recurses over it.
"""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.parser import Parser

from app.templating import limits
from app.templating.findings import Finding, Refused
from app.templating.sandbox import Sandbox

_IGNORED = frozenset({"data", "whitespace", "comment_begin", "comment", "comment_end"})
_OPENING = frozenset("([{")
_CLOSING = frozenset(")]}")
_PREFIXES = frozenset({"not", "-", "+"})
_BLOCKS = frozenset({"for", "if", "with", "filter", "macro", "call", "block", "autoescape"})
_BLOCK_ENDS = frozenset(f"end{name}" for name in _BLOCKS)


class _Nesting:
    """Measures one template's tokens against the limits."""

    def __init__(self) -> None:
        self.tokens = 0
        self._brackets = self._blocks = self._chain = self._prefixes = 0
        self._statement = False

    def take(self, kind: str, value: str) -> str | None:
        """Account for a token; says what there is too much of."""
        self.tokens += 1
        if self.tokens > limits.MAX_TOKENS:
            return f"more than {limits.MAX_TOKENS} words and signs within its braces"
        if kind in {"variable_begin", "block_begin"}:
            self._brackets = self._chain = self._prefixes = 0
            self._statement = kind == "block_begin"
            return None
        if self._statement:
            self._statement = False
            self._blocks += (value in _BLOCKS) - (value in _BLOCK_ENDS)
        self._brackets += (value in _OPENING) - (value in _CLOSING)
        self._prefixes = self._prefixes + 1 if value in _PREFIXES else 0
        self._chain += value == "else"
        return self._excess()

    def _excess(self) -> str | None:
        if self._brackets > limits.MAX_BRACKETS:
            return f"more than {limits.MAX_BRACKETS} brackets within each other"
        if self._blocks > limits.MAX_BLOCKS:
            return f"more than {limits.MAX_BLOCKS} blocks within each other"
        if max(self._chain, self._prefixes) > limits.MAX_CHAIN:
            return f"more than {limits.MAX_CHAIN} 'else', 'not' or signs in a row"
        return None


def measure(sandbox: Sandbox, source: str) -> int:
    """Count the tokens of a template. Raises `Refused` for one that is too large or too deep."""
    if len(source) > limits.MAX_SOURCE_CHARS:
        raise Refused([Finding(f"the template is longer than {limits.MAX_SOURCE_CHARS} characters")])
    nesting = _Nesting()
    try:
        for line, kind, value in sandbox.lexer.tokeniter(source, None):
            excess = None if kind in _IGNORED else nesting.take(kind, value)
            if excess:
                raise Refused([Finding(f"the template has {excess}", "split it into simpler ones", line)])
    except TemplateSyntaxError as error:
        raise Refused([_syntax_finding(error)]) from error
    return nesting.tokens


def parse(sandbox: Sandbox, source: str) -> nodes.Template:
    """Parse a measured template. Raises `Refused`."""
    try:
        tree = Parser(sandbox, source).parse()
    except TemplateSyntaxError as error:
        raise Refused([_syntax_finding(error)]) from error
    except (ValueError, SyntaxError) as error:
        hint = "write the number or text differently"
        raise Refused([Finding(f"a number or text of the template cannot be read: {error}", hint)]) from error
    except (RecursionError, AssertionError) as error:
        raise Refused([Finding("the template is too deeply nested", "split it into simpler ones")]) from error
    if _deeper_than(tree, limits.MAX_SYNTAX_DEPTH):
        hint = "split it into simpler ones"
        raise Refused([Finding(f"an expression has more than {limits.MAX_SYNTAX_DEPTH} levels", hint)])
    return tree


def _deeper_than(tree: nodes.Node, limit: int) -> bool:
    pending: list[tuple[Iterator[nodes.Node], int]] = [(tree.iter_child_nodes(), 1)]
    while pending:
        children, depth = pending.pop()
        if depth > limit:
            return True
        pending.extend((child.iter_child_nodes(), depth + 1) for child in children)
    return False


_WORDS = (
    ("expected token 'in', got", "write {% for item in list %}"),
    ("got '='", "use == to compare"),
    ("got '&'", "use and/or/not"),
    ("unexpected '|'", "use and/or/not"),
    ("unexpected char '&'", "use and/or/not"),
    ("unexpected char '!'", "use and/or/not"),
    (
        "expected token 'end of print statement', got",
        "one expression stands between {{ and }}; a helper is a filter: {{ value | upper }}",
    ),
    ("expected token ':'", "braces within an expression make an object: {'key': value}"),
    ("Encountered unknown tag", "the tags are for, if, set, with and filter, each with its end"),
    (
        "Unexpected end of template",
        "close every {% for %} with {% endfor %} and every {% if %} with {% endif %}",
    ),
    ("Missing end of comment", "end the comment with #}"),
    ("unexpected end of template", "close the braces with }}"),
)


def _syntax_finding(error: TemplateSyntaxError) -> Finding:
    message = error.message or "the template cannot be read"
    hint = next((advice for words, advice in _WORDS if words in message), None)
    return Finding(f"template syntax: {message}", hint, error.lineno)
