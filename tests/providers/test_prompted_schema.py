"""Schemas put into words, and who holds answers to them, as the operator set it."""

from __future__ import annotations

from typing import Any, Final

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatRequest, Message
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.openai.dialect import StructuredOutputs
from app.providers.prompted_schema import with_schema
from app.providers.transport import Transport

SCHEMA: Final[dict[str, Any]] = {"type": "object", "properties": {"größe": {"type": "integer"}}}
WRITTEN: Final = '{"type":"object","properties":{"größe":{"type":"integer"}}}'
SYSTEM: Final = Message(role="system", content="Be brief.")
USER: Final = Message(role="user", content="Why?")


def test_a_schema_that_json_cannot_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        with_schema([USER], {"const": {1, 2}})


def test_without_a_system_turn_there_is_one_before_all() -> None:
    told, *rest = with_schema([USER], SCHEMA)
    assert (told.role, rest) == ("system", [USER])
    assert str(told.content).endswith(WRITTEN)
    assert "JSON" in str(told.content)


def test_the_system_turn_that_is_there_gets_it_at_its_end() -> None:
    told, *rest = with_schema([SYSTEM, USER], SCHEMA)
    assert rest == [USER]
    assert str(told.content).startswith("Be brief.\n\n")
    assert str(told.content).endswith(WRITTEN)
    assert SYSTEM.content == "Be brief."


def test_of_several_system_turns_the_first_gets_it_wherever_it_stands() -> None:
    turns = with_schema([USER, SYSTEM, SYSTEM], SCHEMA)
    assert [WRITTEN in str(turn.content) for turn in turns] == [False, True, False]


def test_a_system_turn_in_parts_gets_one_more() -> None:
    part = {"type": "text", "text": "Be brief."}
    told = with_schema([Message(role="system", content=[part])], SCHEMA)[0]
    assert not isinstance(told.content, str)
    first, last = told.content
    assert first == part
    assert (last["type"], last["text"].endswith(WRITTEN)) == ("text", True)


def test_further_keys_of_the_turn_are_kept() -> None:
    named = Message(role="system", content="", extra={"name": "ann"})
    assert with_schema([named], SCHEMA)[0].extra == {"name": "ann"}


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.text(), st.lists)))
def test_any_schema_can_be_read_out_of_the_words_again(schema: dict[str, Any]) -> None:
    content = str(with_schema([USER], schema)[0].content)
    assert orjson.loads(content.partition("\n")[2]) == schema


@pytest.mark.parametrize(
    ("way", "kind", "prompted"),
    [
        ("json_schema", "json_schema", False),
        ("json_object", "json_object", True),
        ("prompt", None, True),
        ("none", None, False),
    ],
)
async def test_who_holds_answers_to_a_schema_is_the_operators_to_say(
    context: CallContext, way: StructuredOutputs, kind: str | None, prompted: bool
) -> None:
    bodies: list[Any] = []

    def server(request: httpx.Request) -> httpx.Response:
        bodies.append(orjson.loads(request.content))
        return httpx.Response(400)

    config = OpenAIConfig(name="main", base_url="http://m.test/v1", structured_outputs=way)
    model = OpenAI(config, Transport.over_httpx(httpx.MockTransport(server)))
    for schema in (SCHEMA, None):
        request = ChatRequest(model="m", messages=[SYSTEM, USER], response_schema=schema)
        with pytest.raises(PermanentError):
            await model.complete(request, context)
    held, free = bodies
    assert held.get("response_format", {}).get("type") == kind
    assert (WRITTEN in held["messages"][0]["content"]) is prompted
    assert free == {
        "model": "m",
        "messages": [{"role": t.role, "content": t.content} for t in (SYSTEM, USER)],
    }
