"""Worlds for Hypothesis: a random plan, and everything that may befall it."""

from __future__ import annotations

from hypothesis import strategies as st

from app.core.plan import Plan
from tests.core.documents import plans
from tests.core.simulation import Weather, World

CANCELS = ((), (), (), (1,), (2, 4), (10,), (20, 22), (40,), (40, 60, 80), (120, 125))
"""After how many events somebody asks for the end: never, once, again."""


@st.composite
def weathers(draw: st.DrawFn, *, crashes: bool = True, cancels: bool = True, rumours: int = 0) -> Weather:
    """Fair or foul."""
    return Weather(
        failing=draw(st.sampled_from([0.0, 0.02, 0.1, 0.5])),
        crashing=draw(st.sampled_from([0.0, 0.0, 0.01, 0.05])) if crashes else 0.0,
        pausing=draw(st.sampled_from([0.0, 0.05])),
        deferring=draw(st.sampled_from([0.0, 0.1])),
        cancels=draw(st.sampled_from(CANCELS)) if cancels else (),
        slow=draw(st.sampled_from([0.0, 0.3, 1.0])),
        rumours=rumours,
    )


@st.composite
def worlds(
    draw: st.DrawFn,
    *,
    crashes: bool = True,
    cancels: bool = True,
    rumours: int = 0,
    of: st.SearchStrategy[Plan] | None = None,
) -> World:
    """A world that has not begun yet."""
    return World(
        plan=draw(plans() if of is None else of),
        seed=draw(st.integers(0, 2**32)),
        weather=draw(weathers(crashes=crashes, cancels=cancels, rumours=rumours)),
    )
