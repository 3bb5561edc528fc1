"""The simulated vendor as a process of its own, and transports that are closed again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from app.ports.models import CallContext, ChatRequest, Message
from app.providers.transport import Transport
from tests.simulator.process import Simulator, start_simulator


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[Simulator]:
    with start_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(simulator_process: Simulator) -> Simulator:
    """The simulator, as if it had just started."""
    simulator_process.reset()
    return simulator_process


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """Real sockets without a policy: what providers are called with."""
    transport = Transport.over_sockets()
    yield transport
    await transport.aclose()


@pytest.fixture
def context() -> CallContext:
    return CallContext(run_id="r", path="answer", attempt=1, idempotency_key="r:answer", timeout_seconds=10)


@pytest.fixture
def question() -> ChatRequest:
    return ChatRequest(model="gpt-4o-mini", messages=[Message(role="user", content="Why?")])
