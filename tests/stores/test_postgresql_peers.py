"""Peers over a database whose connections break, and what an idle process costs it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.ports.peers import Note
from app.stores.postgresql.connection import Address
from app.stores.postgresql.news import News
from app.stores.postgresql.peers import PostgresPeers
from tests.postgresql_server import database_of
from tests.stores.cutting_proxy import CuttingProxy


class Ear:
    """What one process hears."""

    def __init__(self) -> None:
        self.texts: asyncio.Queue[str] = asyncio.Queue()
        self.joined: asyncio.Queue[None] = asyncio.Queue()

    async def listen(self, peers: PostgresPeers) -> None:
        await peers.start(
            heard=lambda _, text: self.texts.put_nowait(text), joined=lambda: self.joined.put_nowait(None)
        )
        await asyncio.wait_for(self.joined.get(), 10)


async def test_a_cut_connection_loses_what_is_told_meanwhile_and_is_told_of_when_it_stands_again(
    tmp_path: Path,
) -> None:
    url = database_of(tmp_path)
    async with CuttingProxy.before(url) as proxy:
        far, near = News(Address(url=proxy.url), lambda: None), News(Address(url=url), lambda: None)
        cut, other = PostgresPeers(far), PostgresPeers(near)
        far.start()
        near.start()
        ear, others = Ear(), Ear()
        await ear.listen(cut)
        await others.listen(other)
        proxy.hold()
        proxy.cut_all()
        async with asyncio.timeout(10):
            while cut.connected:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.005)
        await cut.tell([Note(text="lost")])
        await other.tell([Note(to=cut.name, text="lost, too")])
        proxy.let_in()
        await asyncio.wait_for(ear.joined.get(), 10)
        assert cut.connected
        await cut.tell([Note(text="told")])
        await other.tell([Note(to=cut.name, text="heard")])
        assert await asyncio.wait_for(others.texts.get(), 10) == "told"
        assert await asyncio.wait_for(ear.texts.get(), 10) == "heard"
        for peers, news in ((cut, far), (other, near)):
            await peers.stop()
            await news.stop()
