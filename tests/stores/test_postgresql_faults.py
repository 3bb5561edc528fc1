"""What errors of the driver are taken for."""

from __future__ import annotations

import asyncpg

from app.stores.postgresql.faults import ERRORS, connection_is_lost, outage


def test_a_connection_that_the_server_ends_while_it_is_asked_is_a_lost_one() -> None:
    error = asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")
    assert isinstance(error, ERRORS)
    assert connection_is_lost(error)
    assert outage(error) is not None
