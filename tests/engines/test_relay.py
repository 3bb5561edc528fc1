"""News between processes: only what is wanted is told, in order, bounded, and nothing rests on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from app.engines.engine import Delta
from app.engines.live import LiveEvents, LiveListener, Wish
from app.engines.outlet import MAX_CHARACTERS, Outlet
from app.engines.relay import Relay
from app.engines.relay_notes import Hello, Message, Said, Tidings, Told, Wishes, Work, read, write
from app.ports.peers import MAX_NOTE_BYTES, Note
from app.stores.memory_peers import MemoryPeers, PeerRoom
from tests.engines.harness import eventually


def delta(text: str, *, after: int = 3, path: str = "a", attempt: int = 1) -> Delta:
    return Delta(path=path, attempt=attempt, text=text, at=7.0, after=after)


def told(seq: int, *, run_id: str = "r", ended: bool = False) -> Told:
    return Told(run_id=run_id, seq=seq, ended=ended)


def said(text: str) -> Said:
    return Said(run_id="r", delta=delta(text))


# --- what is written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "no", "[]", "3", '{"tidings":[[1]]}', '{"wishes":[["r",9]]}', "{}"])
def test_a_text_that_is_no_message_is_none(text: str) -> None:
    assert read(text) is None


def test_what_no_json_holds_is_left_out_and_the_rest_is_told() -> None:
    [text] = write(Tidings(items=[said("\ud800"), told(4)]))
    assert read(text) == Tidings(items=[told(4)])


def test_what_fits_into_no_note_is_left_out() -> None:
    endless = Said(run_id="r", delta=delta("x", path="p" * MAX_NOTE_BYTES))
    [text] = write(Tidings(items=[endless, told(4)]))
    assert read(text) == Tidings(items=[told(4)])


@pytest.mark.parametrize(
    "message",
    [
        Hello(),
        Wishes(runs={"r": Wish.EVERYTHING, "s": Wish.END, "t": None}),
        Work(),
        Tidings(items=[said("é\n\x00"), told(4), told(5, ended=True)]),
    ],
)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    [text] = write(message)
    assert "\n" not in text
    assert read(text) == message


@pytest.mark.parametrize("letter", ["a", "字", "\x01", "\U0001f600"])
def test_a_long_text_goes_into_several_notes_and_comes_out_whole(letter: str) -> None:
    texts = write(Tidings(items=[said(letter * 30_000), told(4)]))
    assert len(texts) > 1
    assert max(len(text.encode()) for text in texts) <= MAX_NOTE_BYTES
    messages = [read(text) for text in texts]
    items = [item for message in messages if isinstance(message, Tidings) for item in message.items]
    assert "".join(item.delta.text for item in items if isinstance(item, Said)) == letter * 30_000
    assert items[-1] == told(4)


def test_nothing_to_tell_takes_no_note() -> None:
    assert write(Tidings(items=[])) == write(Wishes(runs={})) == []


# --- what waits to be told ------------------------------------------------------------------------------


def test_past_the_bound_deltas_are_dropped_and_events_are_not() -> None:
    outlet = Outlet()
    outlet.tell(told(3))
    for _ in range(MAX_CHARACTERS // 100_000 + 1):
        outlet.say("r", delta("x" * 100_000))
    outlet.tell(told(4))
    items = outlet.take()
    assert [item for item in items if isinstance(item, Told)] == [told(4)]
    assert sum(len(item.delta.text) for item in items if isinstance(item, Said)) < MAX_CHARACTERS


def test_no_delta_gets_behind_an_event_that_came_after_it() -> None:
    outlet = Outlet()
    outlet.say("r", delta("a1", path="a"))
    outlet.say("r", delta("b1", path="b"))
    outlet.tell(told(4))
    outlet.say("r", delta("a2", path="a", after=4))
    assert outlet.take() == [
        Said(run_id="r", delta=delta("a1", path="a")),
        Said(run_id="r", delta=delta("b1", path="b")),
        told(4),
        Said(run_id="r", delta=delta("a2", path="a", after=4)),
    ]
    assert outlet.take() == []


def test_words_of_attempts_side_by_side_join_what_waits_of_each() -> None:
    outlet = Outlet()
    for word in ("x", "y", "z"):
        outlet.say("r", delta(word, path="a"))
        outlet.say("r", delta(word, path="b"))
        outlet.say("r", delta(word, path="a", attempt=2))
    texts = [(item.delta.path, item.delta.text) for item in outlet.take() if isinstance(item, Said)]
    assert texts == [("a", "xyz"), ("b", "xyz"), ("a", "xyz")]


def test_of_events_in_a_row_the_last_is_told() -> None:
    outlet = Outlet()
    for seq in (4, 5, 6):
        outlet.tell(told(seq))
    outlet.tell(told(9, run_id="s"))
    outlet.tell(told(7, ended=True))
    assert outlet.take() == [told(6), told(9, run_id="s"), told(7, ended=True)]


# --- between processes ----------------------------------------------------------------------------------


class Process:
    """One of those that share a room."""

    def __init__(self, room: PeerRoom) -> None:
        self.live = LiveEvents()
        self.peers = Overheard(room)
        self.looks = 0
        self.relay = Relay(self.live, self.peers, look=self.look, refresh_seconds=0.05, lease_seconds=0.3)

    def look(self) -> None:
        self.looks += 1

    def wants(self, run_id: str) -> bool:
        """Whether it knows that somebody else wants to hear of the run."""
        return run_id in self.relay._wanted


class Overheard(MemoryPeers):
    """Remembers what it told."""

    def __init__(self, room: PeerRoom) -> None:
        super().__init__(room)
        self.told: list[Note] = []

    async def tell(self, notes: Sequence[Note]) -> None:
        if self.connected:
            self.told += notes
        await super().tell(notes)

    def tidings(self) -> list[Told | Said]:
        messages = [read(note.text) for note in self.told]
        return [item for message in messages if isinstance(message, Tidings) for item in message.items]


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Process, Process]]:
    """One that executes and one that reads."""
    room = PeerRoom()
    both = (Process(room), Process(room))
    for process in both:
        await process.relay.start()
    yield both
    for process in both:
        await process.relay.stop()
        await process.relay.stop()


async def taken(listener: LiveListener, count: int) -> list[Delta]:
    """The next deltas, at least so many characters of them."""
    got: list[Delta] = []

    def enough() -> bool:
        got.extend(listener.deltas())
        return sum(len(one.text) for one in got) >= count

    await eventually(enough)
    return got


async def test_a_run_that_nobody_follows_is_told_of_to_nobody(pair: tuple[Process, Process]) -> None:
    executor, reader = pair
    with reader.live.listen("other"):
        await eventually(lambda: executor.wants("other"))
        for seq in range(5):
            executor.live.publish("r", seq)
            executor.live.publish_delta("r", delta("x"))
        executor.live.publish("other", 1)
        await eventually(lambda: bool(executor.peers.tidings()))
    assert {item.run_id for item in executor.peers.tidings()} == {"other"}


async def test_a_reader_that_left_is_told_nothing_more(pair: tuple[Process, Process]) -> None:
    executor, reader = pair
    with reader.live.listen("r"):
        await eventually(lambda: executor.wants("r"))
    await eventually(lambda: not executor.wants("r"))


async def test_a_process_that_died_is_forgotten_after_a_while(pair: tuple[Process, Process]) -> None:
    executor, reader = pair
    with reader.live.listen("r"):
        await eventually(lambda: executor.wants("r"))
        await reader.peers.stop()
        await eventually(lambda: not executor.wants("r"))


async def test_a_wish_holds_for_as_long_as_it_is_repeated(pair: tuple[Process, Process]) -> None:
    executor, reader = pair
    with reader.live.listen("r"):
        await eventually(lambda: executor.wants("r"))
        lost = asyncio.Event()
        asyncio.get_running_loop().call_later(0.8, lost.set)
        while not lost.is_set():
            assert executor.wants("r")
            await asyncio.sleep(0.02)


async def test_words_and_events_come_in_order_and_whole(pair: tuple[Process, Process]) -> None:
    executor, reader = pair
    with reader.live.listen("r") as listener:
        await eventually(lambda: executor.wants("r"))
        assert listener.horizon() is None
        for number in range(200):
            executor.live.publish_delta("r", delta(f"{number:03}"))
            if number % 10 == 0:
                await asyncio.sleep(0.001)
        assert (listener.horizon() or 0) <= 3
        executor.live.publish("r", 4)
        got = await taken(listener, 600)
        assert "".join(one.text for one in got) == "".join(f"{number:03}" for number in range(200))
        assert len(got) < 100
        assert await listener.wait(after=3, seconds=5)
        assert listener.horizon() == 4


async def test_who_only_awaits_the_end_is_told_of_nothing_else(pair: tuple[Process, Process]) -> None:
    executor, reader = pair
    ended = asyncio.Event()
    with reader.live.awaiting("r", ended.set):
        await eventually(lambda: executor.wants("r"))
        executor.live.publish("r", 4)
        executor.live.publish_delta("r", delta("x"))
        executor.live.publish("r", 5, ended=True)
        await asyncio.wait_for(ended.wait(), 5)
    assert executor.peers.tidings()[0] == told(5, ended=True)


async def test_a_reader_makes_a_waiters_wish_larger_and_leaves_it_when_it_goes(
    pair: tuple[Process, Process],
) -> None:
    executor, reader = pair

    def wish() -> set[Wish]:
        return {lease.wish for lease in executor.relay._wanted.get("r", {}).values()}

    with reader.live.awaiting("r", lambda: None):
        await eventually(lambda: wish() == {Wish.END})
        with reader.live.listen("r"):
            await eventually(lambda: wish() == {Wish.EVERYTHING})
        await eventually(lambda: wish() == {Wish.END})
    await eventually(lambda: not wish())


async def test_one_that_comes_later_hears_of_every_wish_at_once(pair: tuple[Process, Process]) -> None:
    _, reader = pair
    with reader.live.listen("r"):
        late = Process(reader.peers._room)
        await late.relay.start()
        await eventually(lambda: late.wants("r"))
        await late.relay.stop()


async def test_the_others_look_at_the_store_when_work_waits(pair: tuple[Process, Process]) -> None:
    first, second = pair
    for _ in range(3):
        first.live.work_waits()
    await eventually(lambda: second.looks > 0)
    assert first.looks == 0


async def test_news_wait_while_others_cannot_be_reached(pair: tuple[Process, Process]) -> None:
    executor, reader = pair
    with reader.live.listen("r") as listener:
        await eventually(lambda: executor.wants("r"))
        await executor.peers.stop()
        executor.live.publish_delta("r", delta("kept"))
        executor.live.publish("r", 4)
        await executor.peers.start(heard=executor.relay._heard, joined=executor.relay._joined)
        assert await listener.wait(after=3, seconds=5)
        assert [one.text for one in await taken(listener, 4)] == ["kept"]


async def test_who_missed_how_far_the_journal_is_hears_of_it_again(pair: tuple[Process, Process]) -> None:
    executor, reader = pair
    with reader.live.listen("r") as listener:
        await eventually(lambda: executor.wants("r"))
        await reader.peers.stop()
        executor.live.publish("r", 4)
        await eventually(lambda: told(4) in executor.peers.tidings())
        await reader.peers.start(heard=reader.relay._heard, joined=reader.relay._joined)
        await eventually(lambda: listener.horizon() == 4)


async def test_a_relay_that_stops_tells_what_waits(pair: tuple[Process, Process]) -> None:
    executor, reader = pair
    with reader.live.listen("r") as listener:
        await eventually(lambda: executor.wants("r"))
        executor.live.publish("r", 4)
        executor.live.publish_delta("r", delta("last", after=4))
        await executor.relay.stop()
        assert [one.text for one in await taken(listener, 4)] == ["last"]


async def test_a_run_that_moves_here_waits_for_nobody_elsewhere(pair: tuple[Process, Process]) -> None:
    executor, reader = pair
    with reader.live.listen("r") as listener:
        await eventually(lambda: executor.wants("r"))
        executor.live.publish("r", 4)
        await eventually(lambda: listener.horizon() == 4)
        reader.live.publish("r", 6)
        assert listener.horizon() is None
        assert await listener.wait(after=5, seconds=0)
