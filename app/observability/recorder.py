"""Where the parts of the service report what happened: one cheap method a fact, no label handling.

`app.observability.metrics.Metrics` counts for Prometheus; `NoMetrics` forgets, for tests and for
measuring what counting costs.
"""

from __future__ import annotations

from typing import Protocol

from app.ports.provider_status import BreakerState


class Recorder(Protocol):
    """Where facts are counted. Durations are seconds, `status` is the status as the API spells it.

    Every method is called on the event loop's thread: implementations need no lock.
    """

    def run_finished(self, workflow: str, status: str, seconds: float) -> None:
        """A run reached a terminal status, this long after it was taken up."""
        ...

    def active_runs(self, n: int) -> None:
        """How many runs this process drives now."""
        ...

    def queue_depth(self, n: int) -> None:
        """How many accepted runs wait to be taken up."""
        ...

    def steps_in_flight(self, delta: int) -> None:
        """An attempt began (+1) or ended in whatever way (-1)."""
        ...

    def step_finished(self, step_type: str, status: str, seconds: float | None) -> None:
        """A step reached a terminal status. `seconds` is None where nothing ran (a skipped step)."""
        ...

    def llm_request(self, provider: str, model: str, status: str, seconds: float) -> None:
        """A call to a model ended: status `success`, or the error's class."""
        ...

    def llm_tokens(self, provider: str, model: str, type: str, count: int) -> None:
        """Tokens that a vendor billed; type `input`, `output`, `cached` or `reasoning`."""
        ...

    def vector_request(self, database: str, operation: str, status: str, seconds: float) -> None:
        """A call to a vector database ended: status `success`, or the error's class."""
        ...

    def breaker_state(self, provider: str, model: str, state: BreakerState) -> None:
        """The circuit breaker of a model, or of a database (`model` is empty then), changed."""
        ...

    def calls_waiting(self, provider: str, delta: int) -> None:
        """A call began (+1) or ceased (-1) to wait for room within the limits of its instance."""
        ...

    def call_refused(self, provider: str, model: str, reason: str) -> None:
        """A call was not made: reason `breaker` or `limit`."""
        ...

    def step_cache(self, outcome: str) -> None:
        """A step that says `cache` asked for what is known: `hit` or `miss`."""
        ...

    def error(self, error_type: str, component: str) -> None:
        """Something failed: its error class, and the part of the service it was seen in."""
        ...

    def committed(self, batch_size: int, seconds: float) -> None:
        """A transaction of that many writes became durable, this long after it was begun."""
        ...

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop ran a callback that was due."""
        ...

    def webhook_attempt(self, outcome: str) -> None:
        """An attempt to deliver a webhook ended: `delivered`, `retrying` or `dead`."""
        ...

    def webhooks_pending(self, n: int) -> None:
        """How many deliveries have not ended."""
        ...


class NoMetrics:
    """Counts nothing."""

    def run_finished(self, workflow: str, status: str, seconds: float) -> None:
        """Nothing."""

    def active_runs(self, n: int) -> None:
        """Nothing."""

    def queue_depth(self, n: int) -> None:
        """Nothing."""

    def steps_in_flight(self, delta: int) -> None:
        """Nothing."""

    def step_finished(self, step_type: str, status: str, seconds: float | None) -> None:
        """Nothing."""

    def llm_request(self, provider: str, model: str, status: str, seconds: float) -> None:
        """Nothing."""

    def llm_tokens(self, provider: str, model: str, type: str, count: int) -> None:
        """Nothing."""

    def vector_request(self, database: str, operation: str, status: str, seconds: float) -> None:
        """Nothing."""

    def breaker_state(self, provider: str, model: str, state: BreakerState) -> None:
        """Nothing."""

    def calls_waiting(self, provider: str, delta: int) -> None:
        """Nothing."""

    def call_refused(self, provider: str, model: str, reason: str) -> None:
        """Nothing."""

    def step_cache(self, outcome: str) -> None:
        """Nothing."""

    def error(self, error_type: str, component: str) -> None:
        """Nothing."""

    def committed(self, batch_size: int, seconds: float) -> None:
        """Nothing."""

    def loop_lag(self, seconds: float) -> None:
        """Nothing."""

    def webhook_attempt(self, outcome: str) -> None:
        """Nothing."""

    def webhooks_pending(self, n: int) -> None:
        """Nothing."""
