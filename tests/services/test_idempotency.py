"""The first answer under a key is the only one."""

from __future__ import annotations

import pytest

from app.services.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from app.services.idempotency import Answer, Idempotency, IdempotencyKey, fingerprint
from app.stores.memory import MemoryStore
from tests.engines.harness import WallClock

KEY = IdempotencyKey(key="k", fingerprint=fingerprint("POST", "/v1/runs", b"{}"))
ANSWER = Answer(status_code=202, body=b'{"id":1}', headers={"Location": "/x"})


async def idempotency() -> Idempotency:
    store = MemoryStore()
    await store.open()
    return Idempotency(store.idempotency, WallClock())


async def test_a_key_in_flight_is_refused() -> None:
    guard = await idempotency()
    with guard.hold("t", KEY), pytest.raises(IdempotencyKeyInUse), guard.hold("t", KEY):
        pass


async def test_a_key_is_free_again_after_a_failure() -> None:
    guard = await idempotency()
    with pytest.raises(ZeroDivisionError), guard.hold("t", KEY):
        raise ZeroDivisionError
    with guard.hold("t", KEY):
        pass


async def test_a_key_of_another_request_is_refused() -> None:
    guard = await idempotency()
    await guard.save("t", KEY, ANSWER)
    other = IdempotencyKey(key="k", fingerprint=fingerprint("POST", "/v1/runs", b"{ }"))
    with pytest.raises(IdempotencyKeyReused):
        await guard.earlier("t", other)


async def test_tenants_do_not_share_keys() -> None:
    guard = await idempotency()
    await guard.save("t", KEY, ANSWER)
    assert await guard.earlier("u", KEY) is None
    with guard.hold("t", KEY), guard.hold("u", KEY):
        pass


async def test_an_earlier_answer_stands() -> None:
    guard = await idempotency()
    await guard.save("t", KEY, ANSWER)
    await guard.save("t", KEY, Answer(status_code=202, body=b'{"id":2}'))
    assert await guard.earlier("t", KEY) == ANSWER


def test_method_path_and_body_make_a_request() -> None:
    prints = {
        fingerprint(*parts) for parts in [("POST", "/a", b"b"), ("POST", "/ab", b""), ("PUT", "/a", b"b")]
    }
    assert len(prints) == 3
