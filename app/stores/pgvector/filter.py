"""Metadata filters as SQL: a tree in, a condition over the `metadata` column out. Pure, no I/O.

Fields and operands become parameters, never text of the statement. Every condition is true or false, never
null, so that `NOT` means what `app.ports.vector_filters` says:

- `jsonb` keeps the kinds apart and compares numbers as decimals, so that 1 equals 1.0; an array holds
  (`@>`, `?|`) its elements.
- Texts are ordered by their bytes in UTF-8 (collation "C"), which is the order of code points.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, assert_never

from app.ports.vector_checks import invalid
from app.ports.vector_filters import All, AnyOf, Condition, FilterTree, Not

_ORDERS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


class Parameters:
    """The values of one statement, in the order of their numbers."""

    def __init__(self, *values: Any) -> None:
        self._values = list(values)

    def add(self, value: Any, type_name: str) -> str:
        """Take a value; what stands for it in the statement."""
        self._values.append(value)
        return f"${len(self._values)}::{type_name}"

    @property
    def values(self) -> tuple[Any, ...]:
        """All of them."""
        return tuple(self._values)


def condition(tree: FilterTree, parameters: Parameters) -> str:
    """SQL that is true for the rows that pass. Raises `PermanentError` for texts PostgreSQL cannot hold."""
    match tree:
        case Condition():
            return _condition(tree, parameters)
        case All():
            return _joined("AND", tree.parts, parameters) or "true"
        case AnyOf():
            return _joined("OR", tree.parts, parameters) or "false"
        case Not():
            return f"NOT {condition(tree.part, parameters)}"
        case _:
            assert_never(tree)


def check_text(text: str, *, what: str) -> str:
    """Refuse what PostgreSQL keeps in no text: the NUL character, and half surrogate pairs."""
    if "\0" in text:
        raise invalid(f"{what} {text!r} holds a NUL character, which PostgreSQL cannot store; take it out")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(f"{what} {text!r} holds half a surrogate pair; write valid Unicode") from None
    return text


def _joined(word: str, parts: Sequence[FilterTree], parameters: Parameters) -> str:
    clauses = [condition(part, parameters) for part in parts]
    return f"({f' {word} '.join(clauses)})" if clauses else ""


def _condition(tested: Condition, parameters: Parameters) -> str:
    name = check_text(tested.field, what="the filter's field")
    for kind, operand in tested.operands:
        if kind == "string":
            check_text(operand, what=f"the filter's value for {name!r}")
    value = f"(metadata -> {parameters.add(name, 'text')})"
    if tested.operator == "$exists":
        ((_, wanted),) = tested.operands
        has_value = f"coalesce({value} NOT IN ('null'::jsonb, '[]'::jsonb), false)"
        return has_value if wanted else f"NOT {has_value}"
    if tested.tests_membership:
        found = f"coalesce({_is_one_of(value, tested, parameters)}, false)"
        return f"NOT {found}" if tested.negated else found
    return _in_order(value, _ORDERS[tested.operator], tested.operand, parameters)


def _is_one_of(value: str, tested: Condition, parameters: Parameters) -> str:
    """Null for what is not there."""
    operands = [json.dumps(operand) for _, operand in tested.operands]
    if len(operands) == 1:
        return f"{value} @> {parameters.add(operands[0], 'jsonb')}"
    texts = [operand for kind, operand in tested.operands if kind == "string"]
    # Lists hold texts alone. `= ANY` looks a value up in a hash table, however many operands there are.
    return (
        f"({value} = ANY({parameters.add(operands, 'jsonb[]')}) "
        f"OR {value} ?| {parameters.add(texts, 'text[]')})"
    )


def _in_order(value: str, order: str, operand: Any, parameters: Parameters) -> str:
    # CASE, because AND may look at its second side first, where the cast fails.
    if not isinstance(operand, str):
        bound = parameters.add(Decimal(repr(operand)), "numeric")
        return (
            f"CASE WHEN jsonb_typeof({value}) = 'number' THEN {value}::numeric {order} {bound} ELSE false END"
        )
    bound = parameters.add(operand, "text")
    return (
        f"CASE jsonb_typeof({value}) "
        f"WHEN 'string' THEN ({value} #>> '{{}}') COLLATE \"C\" {order} {bound} "
        f"WHEN 'array' THEN EXISTS (SELECT FROM jsonb_array_elements_text({value}) AS element (item) "
        f'WHERE element.item COLLATE "C" {order} {bound}) '
        "ELSE false END"
    )
