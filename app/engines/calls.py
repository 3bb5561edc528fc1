"""The runs that one run calls, for its runner: handed in, ended, and those of its items looked after.

An item of a distributed map is part of the run although it is a run of its own, so a pause reaches it, and
the run stays in memory for a while as long as items end one after another: to take it up at the end of each
would cost a fold of the whole journal. Where nobody tells the runner of the ends it asks the store for them.
Everywhere it asks once more after the run has gone to rest, when every further end finds it resting and has
it woken: a process that has lost the run may have ended an item and told nobody.

What does not belong here: what is called (`children`), how many at a time (the core).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from app.core import commands as c
from app.core import events as e
from app.dsl.compiled import Budget, CompiledWorkflow
from app.engines.account import PAUSE_REASON, Account
from app.engines.attempts import as_failure
from app.engines.budget import budget_of, open_children
from app.engines.children import Children, ItemCall
from app.engines.facts import Fact
from app.engines.hands import Hands
from app.engines.history import History
from app.engines.identity import RunIdentity
from app.engines.reuse import EarlierRun
from app.engines.rundata import RunData
from app.ports.clock import Clock
from app.ports.errors import PermanentError

LINGER_SECONDS: Final = 1.0
"""How long a run stays in memory after an item of it ended, while others are under way."""

Post = Callable[[Fact], None]


class Calls:
    """Of one run, in the hands of its runner."""

    def __init__(
        self,
        run: RunIdentity,
        workflow: CompiledWorkflow,
        history: History,
        data: RunData,
        *,
        children: Children,
        clock: Clock,
        hands: Hands,
        post: Post,
    ) -> None:
        self.has_items = bool(workflow.item_workflows)
        """It has distributed maps: `observe` its calls."""
        self._run = run
        self._workflow = workflow
        self._history = history
        self._data = data
        self._children = children
        self._clock = clock
        self._hands = hands
        self._post = post
        self._items: dict[str, str] = {}
        """Runs of items that are under way, by the paths of their steps."""
        if self.has_items:
            self._find_items()
        self._met = frozenset(self._items)
        """Those that another runner of this run may have handed in."""
        self._told_pause = False
        self._telling = False
        self._heard_at: float | None = None
        self._looked_at = 0.0
        self._looked_at_rest = False

    def _find_items(self) -> None:
        for path in open_children(self._history):
            control = self._history.state.steps[path].control
            if control is not None and control.child is not None and self._data.item_workflow(path):
                self._items[path] = control.child

    def release(self) -> None:
        """Forget whom to tell: see `Hands.release`."""
        self._post = _nobody

    # --- calls ----------------------------------------------------------------------------------------

    async def launch(
        self, command: c.LaunchChild, *, earlier: EarlierRun | None, account: Account | None
    ) -> None:
        """Hand a run in, and tell how it ended if it has."""
        path, run_id = command.path, command.run_id
        call = self._history.steps[path].entered or {}
        control = self._history.state.steps[path].control
        waits = control is not None and control.child_open
        key = self._data.step(path).key
        reuse = None if earlier is None else await earlier.called(key, path)
        try:
            budget = await self._allot(account, path, call, run_id) if waits else None
        except PermanentError as error:
            now = self._clock.now()
            self._post(Fact(event=e.ChildEnded(path=path, failure=as_failure(error), at=now)))
            return
        item = self._data.item_workflow(path)
        made = None
        if item is not None:
            call = {**call, "inputs": self._data.item_inputs(path)}
            fresh = frozenset[str]() if earlier is None else earlier.fresh
            made = ItemCall(definition=item.definition, fresh=fresh)
        fact = await self._children.launch(
            self._run, path, call, run_id, wait=waits, reuse=reuse, budget=budget, item=made
        )
        if fact is not None:
            self._post(fact)
        elif path in self._met and not self._history.state.paused:
            await self._children.resume(run_id)

    async def _allot(
        self, account: Account | None, path: str, call: Mapping[str, Any], run_id: str
    ) -> Budget | None:
        """What a called run may use of this run's budget. Raises `PermanentError` if nothing is left."""
        if account is None:
            return None
        known = await self._children.budget_of(run_id)
        return await account.allot(path, known, budget_of(call.get("budget")), self._pause)

    def _pause(self, detail: str) -> None:
        """Nothing is left of the budget: whoever may raise it decides how the run goes on."""
        event = e.RunPaused(reason=PAUSE_REASON, at=self._clock.now())
        self._post(Fact(event=event, data={"detail": detail}))

    async def cancel(self, command: c.CancelChild, *, account: Account | None) -> None:
        """End a run early."""
        if account is not None:
            account.stop(command.path)
        await self._hands.launched(command.path)
        self._post(await self._children.cancel(self._run, command.path, command.run_id))

    # --- items ----------------------------------------------------------------------------------------

    def observe(self, event: e.Event) -> None:
        """A run was called, or it ended."""
        if isinstance(event, e.ChildStarted) and self._data.item_workflow(event.path) is not None:
            self._items[event.path] = event.run_id
            # One that is handed in while the run is paused is to be told, too.
            self._told_pause = self._told_pause and not self._history.state.paused
        elif not isinstance(event, e.ChildEnded) or self._items.pop(event.path, None) is None:
            return
        self._heard_at = asyncio.get_running_loop().time()

    def pass_pause_on(self) -> None:
        """Have the items under way paused or resumed, where the run is and they are not."""
        if self._items and not self._telling and self._told_pause is not self._history.state.paused:
            self._telling = True
            self._hands.spawn(self._pass_pause_on())

    async def _pass_pause_on(self) -> None:
        while self._told_pause is not (paused := self._history.state.paused):
            items = tuple(self._items.items())
            async with asyncio.TaskGroup() as group:
                for path, run_id in items:
                    group.create_task(self._tell(path, run_id, paused=paused))
            self._told_pause = paused
        self._telling = False

    async def _tell(self, path: str, run_id: str, *, paused: bool) -> None:
        await self._hands.launched(path)
        await (self._children.pause(run_id) if paused else self._children.resume(run_id))

    def keeps_awake(self) -> bool:
        """Whether a run of which nothing is due stays in memory: an item of it may end any moment."""
        self._looked_at_rest = False
        if not self._items:
            return False
        now = asyncio.get_running_loop().time()
        if self._heard_at is None:
            self._heard_at = now
        left = self._heard_at + LINGER_SECONDS - now
        if left <= 0:
            return False
        every = self._children.look_seconds
        if every is not None and now >= self._looked_at + every:
            self._looked_at = now
            self._hands.spawn(self._look())
        self._hands.look_again(left if every is None else min(left, every))
        return True

    def looks_at_rest(self) -> bool:
        """Whether a run at rest is to be kept a moment longer: an item may have ended before it rested."""
        if not self._items or self._looked_at_rest:
            return False
        self._looked_at_rest = True
        self._hands.spawn(self._look())
        return True

    async def _look(self) -> None:
        found = await self._children.look(dict(self._items))
        for fact in found.ended:
            self._post(fact)
        if found.paused and not (self._telling or self._told_pause or self._history.state.paused):
            # A pause may reach them after another process has resumed the run.
            self._telling = True
            for path, run_id in found.paused.items():
                await self._tell(path, run_id, paused=False)
            await self._pass_pause_on()


def _nobody(_fact: Fact) -> None:
    """The run was let go."""
