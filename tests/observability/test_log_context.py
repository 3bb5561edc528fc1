"""What log lines say beside their event."""

from __future__ import annotations

import asyncio

from app.observability import log_context


async def test_what_a_task_binds_is_seen_by_what_it_starts_and_by_nothing_else() -> None:
    async def within() -> log_context.Names:
        return log_context.names()

    async def bound(run_id: str) -> log_context.Names:
        log_context.bind_only(run_id=run_id)
        await asyncio.sleep(0)
        log_context.bind(step="a")
        return await asyncio.create_task(within())

    outer = log_context.bind_only(request_id="q")
    first, second = await asyncio.gather(bound("r1"), bound("r2"))
    assert first == {"run_id": "r1", "step": "a"}
    assert second == {"run_id": "r2", "step": "a"}
    assert log_context.names() == {"request_id": "q"}
    log_context.reset(outer)


def test_what_a_line_says_itself_goes_first() -> None:
    bound = log_context.bind_only(run_id="bound", step="a")
    assert log_context.add_names(None, "info", {"event": "x", "run_id": "own"}) == {
        "event": "x",
        "run_id": "own",
        "step": "a",
    }
    log_context.reset(bound)
