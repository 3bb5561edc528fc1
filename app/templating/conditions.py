"""Reads expressions and conditions in both dialects, as one Jinja2 expression.

The newer one is bare (`inputs.enable == true`) or wholly in braces (`{{ inputs.enable }}`); the older has
its operands in braces (`{{ outputs.classify }} == 'safe'`), also within quotes. Each `{{ e }}` becomes the
operand `(e)` of the expression: values are never put into its source, so that what a model answers can
not change what is compared.
"""

from __future__ import annotations

from app.templating.findings import Finding, Refused

_WRONG_OPERATORS = {
    "&&": "use and/or/not",
    "||": "use and/or/not",
    "===": "use ==",
    "!==": "use !=",
    "<>": "use !=",
    "=>": "use >=",
    "=<": "use <=",
    "{%": "an expression has no {% … %}; use `a if b else c`",
    "{#": "an expression has no comments",
}
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def as_template(source: str) -> str:
    """The template `{{ expression }}` for an expression of either dialect. Raises `Refused`."""
    parts: list[str] = []
    findings: list[Finding] = []
    position = 0
    while position < len(source):
        wrong = _wrong_operator(source, position)
        if wrong:
            findings.append(Finding(f"{wrong!r} is no operator here", _WRONG_OPERATORS.get(wrong, "use not")))
            position += len(wrong)
            continue
        if source[position] in "'\"":
            end = _end_of_text(source, position)
            parts.append(_text_with_operands(source[position:end]))
        elif source.startswith("{{", position):
            operand, end = _operand(source, position)
            parts.append(f"({operand})")
        else:
            end = position + 1
            parts.append(source[position])
        position = end
    expression = "".join(parts).strip()
    if not expression:
        findings.append(Finding("the expression is empty", "write one, such as inputs.enable == true"))
    if findings:
        raise Refused(findings)
    return f"{{{{ {expression} }}}}"


def _wrong_operator(source: str, position: int) -> str | None:
    for wrong in sorted(_WRONG_OPERATORS, key=len, reverse=True):
        if source.startswith(wrong, position):
            return wrong
    return "!" if source[position] == "!" and source[position + 1 : position + 2] != "=" else None


def _end_of_text(source: str, start: int) -> int:
    """The position after the quoted text that starts there, or the end of the source."""
    position = start + 1
    while position < len(source):
        if source[position] == "\\":
            position += 1
        elif source[position] == source[start]:
            return position + 1
        position += 1
    return len(source)


def _operand(source: str, start: int) -> tuple[str, int]:
    """The expression in the braces that open there, and the position after them. Raises `Refused`."""
    expected: list[str] = []
    position = start + 2
    while position < len(source):
        sign = source[position]
        if sign in "'\"":
            position = _end_of_text(source, position)
            continue
        if not expected and source.startswith("}}", position):
            operand = source[start + 2 : position].removeprefix("-").removesuffix("-").strip()
            if not operand:
                raise Refused([Finding("{{ }} is empty", "write a path: {{ outputs.classify }}")])
            return operand, position + 2
        if sign in _PAIRS:
            expected.append(_PAIRS[sign])
        elif sign in ")]}" and (not expected or expected.pop() != sign):
            raise Refused([Finding(f"the bracket {sign!r} has no partner", "close what is opened in {{ }}")])
        position += 1
    raise Refused([Finding("'{{' is never closed", "close it with }}")])


def _text_with_operands(literal: str) -> str:
    """A quoted text; where it has operands in it (`'{{ a }}-x'`), the texts and operands joined."""
    if "{{" not in literal or "}}" not in literal:
        return literal
    quote, inner = literal[0], literal[1:-1]
    parts, position = [f"{quote}{quote}"], 0
    while (start := inner.find("{{", position)) >= 0 and "}}" in inner[start:]:
        if start > position:
            parts.append(f"{quote}{inner[position:start]}{quote}")
        operand, position = _operand(inner, start)
        parts.append(f"({operand})")
    if position < len(inner):
        parts.append(f"{quote}{inner[position:]}{quote}")
    return f"({' ~ '.join(parts)})"
