"""One run as Temporal sees it: executed by one activity until it ends, asleep between two of them.

Replayed from recorded histories, in tests under Temporal's sandbox: no imports but the contract, no clock, no
I/O. What a run does is not known here; the activity knows, from the journal.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from app.engines.temporal.contract import (
        EXECUTE,
        LONGEST_SECONDS,
        RETRY_SECONDS,
        WAKE,
        WORKFLOW,
        Placement,
        Rest,
        Turn,
    )


@workflow.defn(name=WORKFLOW)
class RunWorkflow:
    """Its id is the run's id, so a run that is placed twice is placed once."""

    def __init__(self) -> None:
        self._told = False

    @workflow.signal(name=WAKE)
    def wake(self) -> None:
        """Take the run up again, whatever its timer says; one that is being executed is left to it."""
        self._told = True

    @workflow.run
    async def run(self, placement: Placement) -> None:
        """Returns when the journal of the run is closed."""
        told = placement.told
        while True:
            # What comes from here on may be too late for the activity, so it is followed by another.
            self._told = False
            rest = await workflow.execute_activity(
                EXECUTE,
                Turn(placement.run_id, told),
                result_type=Rest,
                start_to_close_timeout=timedelta(seconds=LONGEST_SECONDS),
                heartbeat_timeout=timedelta(seconds=placement.heartbeat_seconds),
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(seconds=RETRY_SECONDS), backoff_coefficient=1.0
                ),
            )
            if rest.ended:
                return
            told = await self._rested(rest.seconds)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(replace(placement, told=told))

    async def _rested(self, seconds: float | None) -> bool:
        """Sleep until it is time, or until somebody says `wake`; whether somebody did."""
        timeout = None if seconds is None else timedelta(seconds=max(0.0, seconds))
        try:
            await workflow.wait_condition(lambda: self._told, timeout=timeout)
        except TimeoutError:
            return False
        return True
