import asyncio
import sqlite3
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from plantroom.gateway import books
from plantroom.gateway.queue_schema import MIGRATIONS

HASHES = st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=32, max_size=32)), max_size=20)


@given(HASHES, st.randoms())
def test_a_digest_does_not_depend_on_order_and_can_be_taken_back(hashes: Any, dice: Any) -> None:
    sql = sqlite3.connect(":memory:", isolation_level=None)
    sql.executescript(MIGRATIONS["queue"][0])
    one, two = books.book_of(sql, "d", 1), books.book_of(sql, "d", 2)
    books.add_hashes(sql, one, hashes)
    shuffled = list(hashes)
    dice.shuffle(shuffled)
    for entry in shuffled:
        books.add_hashes(sql, two, [entry])
    assert books.digests(sql, one) == books.digests(sql, two)
    books.add_hashes(sql, one, shuffled, sign=-1)
    assert books.digests(sql, one) == {}


def test_every_book_gets_its_turn_in_a_hello_the_unsettled_first(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        for n in range(7):
            await rig.receive(lab.pack([lab.reading(0, epoch=n)]))
        await rig.database.write(lambda sql: sql.execute("UPDATE book SET settled = epoch < 3"))
        assert await rig.queue.unsettled() == 4

        async def hello(count: int) -> list[int]:
            told = await rig.queue.hello_books(books_max=count, bytes_max=1 << 20)
            return [book.epoch for book in told]

        assert await hello(3) == [3, 4, 5]
        assert await hello(3) == [6, 3, 4]
        await rig.database.write(lambda sql: sql.execute("UPDATE book SET settled = 1"))
        assert sorted(await hello(4)) == [0, 1, 2, 5]
        assert len(await rig.queue.hello_books(books_max=9, bytes_max=1)) == 1

    asyncio.run(scenario())


def test_a_changed_book_is_unsettled(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack([lab.reading(0)]))
        await rig.database.write(lambda sql: sql.execute("UPDATE book SET settled = 1"))
        await rig.receive(lab.pack([lab.reading(1)]))
        assert await rig.queue.unsettled() == 1
        assert await rig.queue.note_heads(lab.device(), {7: 9}, current=8) == {7: "ahead"}
        assert rig.queue.ahead.is_set(), "a hello is due"
        assert await rig.queue.note_heads(lab.device(), {7: 5}, current=8) == {7: "new"}
        assert await rig.queue.note_heads(lab.device(), {7: 5}, current=8) == {7: "open"}
        assert await rig.queue.note_heads(lab.device(), {7: 5}, current=7) == {}
        assert (await rig.book())["highest"] == 9
        await rig.receive(lab.pack(map(lab.reading, range(2, 10))))
        assert await rig.queue.note_heads(lab.device(), {7: 5}, current=8) == {7: "over"}

    asyncio.run(scenario())


def test_a_device_that_only_says_epochs_opens_so_many_books(
    make_rig: Any, lab: Any, caplog: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(books, "UNHEARD_MAX", 3)

    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack([lab.reading(0)]))  # of epoch 7, which is heard of
        await rig.queue.note_heads(lab.device(), dict.fromkeys(range(7, 100), 4), current=99)
        await rig.queue.note_heads(lab.device(), dict.fromkeys(range(200, 300), 4), current=99)

        def opened(sql: Any) -> list[int]:
            return [row[0] for row in sql.execute("SELECT epoch FROM book ORDER BY epoch")]

        assert await rig.database.read(opened) == [7, 97, 98, 99]
        assert (await rig.book())["highest"] == 4, "what is heard of may be said more of"
        assert "says of 100 more epochs than are believed" in caplog.text

    asyncio.run(scenario())
