"""Turns by key."""

from __future__ import annotations

import asyncio
import gc

from app.engines.turns import Turns


async def test_those_of_a_key_come_one_after_another_and_others_at_once() -> None:
    turns: Turns[tuple[str]] = Turns()
    inside: list[str] = []
    most: dict[str, int] = {}

    async def take(*named: str) -> None:
        keys = {*named}
        async with turns.of((key,) for key in named):
            inside.extend(keys)
            for key in keys:
                most[key] = max(most.get(key, 0), inside.count(key))
            most["all"] = max(most.get("all", 0), len(inside))
            await asyncio.sleep(0)
            for key in keys:
                inside.remove(key)

    async with asyncio.timeout(10):
        await asyncio.gather(*(take(*keys) for keys in ("ab", "ba", "c", "aac", "b") * 20))
    assert {most[key] for key in "abc"} == {1}
    assert most["all"] == 3


async def test_a_key_is_forgotten_when_nobody_has_its_turn() -> None:
    turns: Turns[tuple[str]] = Turns()
    async with turns.of([("a",)]):
        assert len(turns) == 1
    gc.collect()
    assert len(turns) == 0
