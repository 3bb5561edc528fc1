"""What the processes that share a store can tell each other, over every way there is to do it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.ports.peers import MAX_NOTE_BYTES, Note, Peers
from app.stores.memory_peers import MemoryPeers, PeerRoom
from app.stores.postgresql.connection import Address
from app.stores.postgresql.news import News
from app.stores.postgresql.peers import PostgresPeers
from app.stores.socket_peers import SocketPeers
from tests.postgresql_server import database_of

HEARD_WITHIN = 20.0


@dataclass
class Member:
    """One process, and what it heard."""

    peers: Peers
    heard: list[tuple[str, str]] = field(default_factory=list)
    joined: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def texts(self) -> list[str]:
        """Of all notes, in order."""
        return [text for _, text in self.heard]

    async def start(self) -> None:
        """Listen, and wait until it can."""
        await self.peers.start(heard=self._hear, joined=self.joined.set)
        async with asyncio.timeout(HEARD_WITHIN):
            await self.joined.wait()

    def _hear(self, sender: str, text: str) -> None:
        self.heard.append((sender, text))

    async def tell(self, *texts: str, to: Member | None = None) -> None:
        """Tell all others, or one."""
        name = None if to is None else to.peers.name
        await self.peers.tell([Note(to=name, text=text) for text in texts])

    async def hears(self, text: str) -> None:
        """Wait for a note."""
        async with asyncio.timeout(HEARD_WITHIN):
            while text not in self.texts:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.005)


Enter = Callable[[], Peers]


@asynccontextmanager
async def _in_memory(_: Path) -> AsyncIterator[Enter]:
    room = PeerRoom()
    yield lambda: MemoryPeers(room)


@asynccontextmanager
async def _over_sockets(folder: Path) -> AsyncIterator[Enter]:
    yield lambda: SocketPeers(folder)


@asynccontextmanager
async def _over_a_database(folder: Path) -> AsyncIterator[Enter]:
    address = Address(url=database_of(folder))
    async with AsyncExitStack() as stack:

        def enter() -> Peers:
            news = News(address, lambda: None)
            peers = PostgresPeers(news)
            news.start()
            stack.push_async_callback(news.stop)
            return peers

        yield enter


WAYS = {"memory": _in_memory, "postgresql": _over_a_database, "sockets": _over_sockets}


@pytest.fixture(params=sorted(WAYS))
async def enter(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[[], Member]]:
    """Makes members of one store; they leave at the end."""
    members: list[Member] = []
    async with WAYS[request.param](tmp_path) as new:

        def make() -> Member:
            members.append(Member(new()))
            return members[-1]

        yield make
        for member in members:
            await member.peers.stop()


@pytest.fixture
async def three(enter: Callable[[], Member]) -> tuple[Member, Member, Member]:
    members = (enter(), enter(), enter())
    for member in members:
        await member.start()
    return members


async def test_one_that_does_not_listen_tells_nothing(
    enter: Callable[[], Member],
) -> None:
    outside, inside = enter(), enter()
    await inside.start()
    assert not outside.peers.connected
    await outside.tell("lost")
    await outside.start()
    await outside.tell("here")
    await inside.hears("here")
    assert inside.texts == ["here"]


async def test_what_is_told_to_one_that_left_is_lost_and_disturbs_nobody(
    three: tuple[Member, Member, Member],
) -> None:
    gone, teller, other = three
    await teller.tell("first", to=gone)
    await gone.hears("first")
    await gone.peers.stop()
    await gone.peers.stop()
    assert not gone.peers.connected
    await teller.tell("second", to=gone)
    await teller.tell("third")
    await other.hears("third")
    assert (gone.texts, other.texts) == (["first"], ["third"])


async def test_nobody_is_told_nothing(three: tuple[Member, Member, Member]) -> None:
    await three[0].peers.tell([])
    await three[0].tell("x", to=Member(MemoryPeers()))
    await three[0].tell("end")
    await three[1].hears("end")
    assert three[1].texts == ["end"]


async def test_a_note_to_all_is_heard_by_all_but_its_sender(three: tuple[Member, Member, Member]) -> None:
    first, second, third = three
    await first.tell("morning")
    for other in (second, third):
        await other.hears("morning")
        assert other.heard == [(first.peers.name, "morning")]
    await second.tell("to you", to=first)
    await first.hears("to you")
    assert first.texts == ["to you"]


async def test_a_note_to_one_is_heard_by_that_one_alone(three: tuple[Member, Member, Member]) -> None:
    first, second, third = three
    await first.tell("hush", to=second)
    await second.hears("hush")
    await first.tell("end")
    await third.hears("end")
    assert third.texts == ["end"]


async def test_notes_of_one_sender_keep_their_order_also_those_that_are_the_same(
    three: tuple[Member, Member, Member],
) -> None:
    first, second, _ = three
    told = ["same", "same", *(f"{number}" for number in range(300)), "same"]
    await first.tell("before")
    for begin in range(0, len(told), 40):
        await first.tell(*told[begin : begin + 40], to=second)
    await first.tell("after")
    await second.hears("after")
    assert second.texts == ["before", *told, "after"]


async def test_tasks_that_tell_at_once_lose_nothing(three: tuple[Member, Member, Member]) -> None:
    first, second, _ = three
    await asyncio.gather(*(first.tell(f"{number}") for number in range(30)))
    await first.tell("end")
    await second.hears("end")
    assert sorted(second.texts) == sorted(["end", *(f"{number}" for number in range(30))])


@pytest.mark.parametrize("letter", ["a", "é", "字", "\U0001f600", '"', "\\", "'"])
async def test_the_longest_note_arrives_whole(three: tuple[Member, Member, Member], letter: str) -> None:
    first, second, _ = three
    text = letter * (MAX_NOTE_BYTES // len(letter.encode()))
    await first.tell(text)
    await second.hears(text)
    assert second.texts == [text]


async def test_one_that_comes_back_hears_again(three: tuple[Member, Member, Member]) -> None:
    first, second, _ = three
    await second.peers.stop()
    second.joined.clear()
    await second.start()
    await first.tell("heard", to=second)
    await second.hears("heard")
    assert second.texts == ["heard"]
