"""Worker processes: confined, replaced when disturbed, and never answering the wrong caller."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from app.ports.errors import TemplateFailed
from app.templating.compiler import compile_value
from app.templating.limits import RenderLimits
from app.templating.renderer import Renderer

GOOD = compile_value("{{ inputs.a * 2 }}")
ENDLESS = compile_value("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")


def worker_processes() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE
        and any("app.templating.worker" in arg for arg in child.cmdline())
    ]


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    renderer = Renderer(RenderLimits(timeout_seconds=10.0))
    yield renderer
    await renderer.close()
    assert not worker_processes()


async def good(renderer: Renderer, value: int = 21) -> None:
    assert await renderer.render(GOOD, {"inputs": {"a": value}}) == 2 * value


async def test_a_render_that_takes_too_long_fails_and_the_next_one_succeeds() -> None:
    renderer = Renderer(RenderLimits(timeout_seconds=1.0))
    try:
        for _ in range(2):
            with pytest.raises(TemplateFailed, match=r"takes longer than 1\.0 s"):
                await renderer.render(ENDLESS, {})
            await good(renderer)
    finally:
        await renderer.close()


async def test_a_worker_that_dies_fails_no_later_render(renderer: Renderer) -> None:
    await good(renderer)
    rendering = asyncio.create_task(renderer.render(ENDLESS, {}))
    while not (workers := worker_processes()) or workers[0].cpu_times().user < 0.15:  # noqa: ASYNC110  # nothing signals it
        await asyncio.sleep(0.01)
    workers[0].kill()
    with pytest.raises(TemplateFailed):
        await rendering
    await good(renderer)


async def test_an_idle_worker_that_dies_is_replaced(renderer: Renderer) -> None:
    await good(renderer)
    (worker,) = worker_processes()
    worker.kill()
    psutil.wait_procs([worker], timeout=5)
    for _ in range(50):
        try:
            await good(renderer)
            break
        except TemplateFailed:
            continue
    await good(renderer)
    assert [other.pid for other in worker_processes()] != [worker.pid]


async def test_a_cancelled_caller_leaves_no_answer_to_the_next(renderer: Renderer) -> None:
    await good(renderer)
    for _ in range(5):
        cancelled = asyncio.create_task(renderer.render(GOOD, {"inputs": {"a": 1}}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        cancelled.cancel()
        await good(renderer, 100)
        assert cancelled.cancelled() or await cancelled == 2


async def test_concurrent_renders_each_get_their_own_answer_in_order(renderer: Renderer) -> None:
    finished: list[int] = []

    async def one(value: int) -> None:
        await good(renderer, value)
        finished.append(value)

    await asyncio.gather(*(one(value) for value in range(50)))
    assert finished == list(range(50))
    assert len(worker_processes()) == 1


async def test_several_workers_serve_while_one_is_busy() -> None:
    renderer = Renderer(RenderLimits(timeout_seconds=5.0), workers=2)
    try:
        endless = asyncio.create_task(renderer.render(ENDLESS, {}))
        for value in range(5):
            await good(renderer, value)
        assert not endless.done()
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless
    finally:
        await renderer.close()


async def test_closing_ends_a_render_in_flight_and_refuses_new_ones() -> None:
    renderer = Renderer(RenderLimits(timeout_seconds=20.0))
    endless = asyncio.create_task(renderer.render(ENDLESS, {}))
    while not worker_processes():  # noqa: ASYNC110  # nothing signals that a process has started
        await asyncio.sleep(0.01)
    await renderer.close()
    with pytest.raises(TemplateFailed):
        await endless
    with pytest.raises(TemplateFailed, match="stopping"):
        await renderer.render(GOOD, {"inputs": {"a": 1}})
    assert not worker_processes()


async def test_a_worker_that_is_just_being_made_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    making, made = asyncio.Event(), asyncio.Event()
    start = asyncio.create_subprocess_exec

    async def slow_start(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*command, **options)
        making.set()
        await made.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow_start)
    renderer = Renderer(RenderLimits(timeout_seconds=20.0))
    endless = asyncio.create_task(renderer.render(ENDLESS, {}))
    await making.wait()
    closing = asyncio.create_task(renderer.close())
    await asyncio.sleep(0)
    made.set()
    await closing
    assert not worker_processes()
    with pytest.raises(TemplateFailed, match="could not be started"):
        await endless


async def test_no_worker_starts_before_it_is_needed(renderer: Renderer) -> None:
    assert await renderer.render(compile_value("{{ inputs.a }}"), {"inputs": {"a": 1}}) == 1
    assert not worker_processes()


async def test_data_that_json_cannot_carry_fails_that_render_only(renderer: Renderer) -> None:
    with pytest.raises(TemplateFailed, match="cannot be sent"):
        await renderer.render(GOOD, {"inputs": {"a": object()}})
    with pytest.raises(TemplateFailed, match="JSON cannot carry"):
        await renderer.render(compile_value("{{ '%c' % inputs.a }}"), {"inputs": {"a": 0xD800}})
    await good(renderer)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the limits from /proc")
async def test_a_worker_has_no_environment_and_hard_limits(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CANARY", "canary-7f3a")
    await good(renderer)
    (worker,) = worker_processes()
    assert "canary-7f3a" not in str(worker.environ())
    assert os.getsid(worker.pid) == worker.pid
    assert worker.rlimit(psutil.RLIMIT_CORE)[0] == 0
    assert worker.rlimit(psutil.RLIMIT_FSIZE)[0] == 0
    assert worker.rlimit(psutil.RLIMIT_NPROC)[0] == 0
    assert worker.rlimit(psutil.RLIMIT_NOFILE)[0] == 3
    assert 0 < worker.rlimit(psutil.RLIMIT_AS)[0] < 2 * 1024**3
    assert 0 < worker.rlimit(psutil.RLIMIT_CPU)[0] < 60
    assert worker.num_fds() == 3


async def test_failures_in_a_worker_name_the_place_and_what_is_missing(renderer: Renderer) -> None:
    compiled = compile_value({"a": "{{ inputs.a * 2 }}", "b": ["{{ steps.gone.x.upper() }}"]})
    with pytest.raises(TemplateFailed, match=r"steps\.gone\.x is not there: the step 'gone'.*\(in /b/0\)"):
        await renderer.render(compiled, {"inputs": {"a": 1}, "steps": {}})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ inputs.list + [4] }}", [3, 1, 2, 4]),
        ("{{ inputs.text + '!' }}", "a b!"),
        ("{{ inputs.text.split() }}", ["a", "b"]),
        ("{{ inputs.text.replace('a', 'x').upper() }}", "X B"),
        ("{{ ', '.join(['x', 'y']) }}", "x, y"),
        ("{{ inputs.list | sort }}", [1, 2, 3]),
        ("{{ inputs.objects | sort(attribute='n', reverse=true) | map(attribute='n') | list }}", [2, 1]),
        ("{{ [1, 1, 2] | unique | list }}", [1, 2]),
        ("{{ inputs.list | batch(2) | list }}", [[3, 1], [2]]),
        (
            "{% for g in inputs.objects | groupby('k') %}{{ g.grouper }}{{ g.list | length }}{% endfor %}",
            "z2",
        ),
        (
            "{% set s = namespace(n=0) %}{% for x in [3, 3] %}{% set s.n = s.n + x %}{% endfor %}{{ s.n }}",
            "6",
        ),
        ("{% set t = inputs.text %}{{ t }}{{ t | length }}", "a b3"),
        ("{% set t %}<{{ inputs.text }}>{% endset %}{{ t | upper }}", "<A B>"),
        ("{% with t = inputs.text %}{{ t }}{% endwith %}", "a b"),
        ("{% filter upper | trim %} {{ inputs.text }} {% endfilter %}", "A B"),
        (
            "{% for x in inputs.tree recursive %}({{ x.v }}{{ loop(x.c | default([])) }}){% endfor %}",
            "(1(2))",
        ),
        ("{% for x in range(4) %}{{ loop.cycle('a', 'b') }}{% endfor %}", "abab"),
        ("{{ '%05.1f' | format(3.14159) }}", "003.1"),
        ("{{ '<b>' | e }}", "&lt;b&gt;"),
        ("{{ '<b>a</b> &amp; b' | striptags }}", "a & b"),
        ("{{ 2000 | filesizeformat }}", "2.0 kB"),
        ("{{ {'b': 1, 'a': 2} | dictsort }}", [["a", 2], ["b", 1]]),
        ("{{ 'x' | center(3) }}", " x "),
        ("{{ [1, 2, 3] | slice(2) | list }}", [[1, 2], [3]]),
        ("{{ 'a b' | urlencode }}", "a%20b"),
        ("{{ 'one two three' | wordwrap(8) }}", "one two\nthree"),
        ("{{ 2 ** 10 }}", 1024),
        ("{{ 'ab' * 2 }}", "abab"),
        ("{{ inputs }}{{ 1 if 'x' * 0 else 2 }}", '{"list":[3,1,2]}2'),
    ],
)
async def test_what_workers_render(renderer: Renderer, template: str, expected: object) -> None:
    compiled = compile_value(template)
    assert not compiled.inline
    context = {
        "inputs": {
            "list": [3, 1, 2],
            "text": "a b",
            "objects": [{"n": 1, "k": "z"}, {"n": 2, "k": "z"}],
            "tree": [{"v": 1, "c": [{"v": 2}]}],
        }
    }
    if template.startswith("{{ inputs }}"):
        context = {"inputs": {"list": [3, 1, 2]}}
    assert await renderer.render(compiled, context) == expected
