"""Sockets in the data directory: what processes leave behind, and processes that stand still."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.ports.peers import MAX_NOTE_BYTES, Note
from app.stores.socket_peers import LIVE_FOLDER, MAX_WAITING_BYTES, SocketPeers


@pytest.fixture
async def peers() -> AsyncIterator[Callable[[Path], SocketPeers]]:
    """Makes some; they are stopped at the end."""
    made: list[SocketPeers] = []

    def make(folder: Path) -> SocketPeers:
        made.append(SocketPeers(folder))
        return made[-1]

    yield make
    for one in made:
        await one.stop()


async def started(one: SocketPeers) -> asyncio.Queue[str]:
    """What it hears from now on."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    await one.start(heard=lambda _, text: heard.put_nowait(text), joined=lambda: None)
    return heard


async def next_of(heard: asyncio.Queue[str]) -> str:
    return await asyncio.wait_for(heard.get(), 10)


async def test_a_folder_that_is_not_there_leaves_the_process_deaf_and_does_no_harm(
    tmp_path: Path, peers: Callable[[Path], SocketPeers]
) -> None:
    one = peers(tmp_path / "nowhere")
    await started(one)
    assert not one.connected
    await one.tell([Note(text="x")])


async def test_what_dead_processes_left_is_removed_by_whoever_finds_it(
    tmp_path: Path, peers: Callable[[Path], SocketPeers]
) -> None:
    one, other = peers(tmp_path), peers(tmp_path)
    heard = await started(other)
    await started(one)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / LIVE_FOLDER / "dead"))
    await one.tell([Note(text="x")])
    assert await next_of(heard) == "x"
    assert {path.name for path in (tmp_path / LIVE_FOLDER).iterdir()} == {one.name, other.name}


async def test_nothing_is_left_by_a_process_that_stops(
    tmp_path: Path, peers: Callable[[Path], SocketPeers]
) -> None:
    one = peers(tmp_path)
    await started(one)
    await one.stop()
    assert not [*(tmp_path / LIVE_FOLDER).iterdir()]


async def test_the_path_of_the_data_directory_may_be_longer_than_an_address(
    tmp_path: Path, peers: Callable[[Path], SocketPeers]
) -> None:
    folder = tmp_path / ("long-" * 40)
    folder.mkdir()
    one, other = peers(folder), peers(folder)
    heard = await started(other)
    await started(one)
    await one.tell([Note(text="x"), Note(to=other.name, text="y")])
    assert [await next_of(heard), await next_of(heard)] == ["x", "y"]


async def test_a_process_that_stands_still_is_not_waited_for(
    tmp_path: Path, peers: Callable[[Path], SocketPeers]
) -> None:
    one, other = peers(tmp_path), peers(tmp_path)
    heard = await started(other)
    await started(one)
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(tmp_path / LIVE_FOLDER / "frozen"))
        frozen.listen()
        text = "x" * MAX_NOTE_BYTES
        notes = [Note(to="frozen", text=text)] * (3 * MAX_WAITING_BYTES // MAX_NOTE_BYTES)
        async with asyncio.timeout(5):
            await one.tell([*notes, Note(text="end")])
            assert await next_of(heard) == "end"


async def test_only_the_owner_may_reach_the_sockets(
    tmp_path: Path, peers: Callable[[Path], SocketPeers]
) -> None:
    await started(peers(tmp_path))
    assert (tmp_path / LIVE_FOLDER).stat().st_mode & 0o077 == 0
