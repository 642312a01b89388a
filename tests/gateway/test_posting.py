import asyncio
import sqlite3
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.gateway import books, ingress, posting
from plantroom.gateway.posting import Posting
from plantroom.gateway.queue_schema import AGAIN, EVICTED, MIGRATIONS, RECEIVED, WAITING
from plantroom.gateway.tables import Life
from plantroom.wire import cbor, spans
from tests.fakes.gateway_rig import TRUST_DOMAIN, FastClock, device, pack, reading

PACKS = st.lists(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([1.0, 1.0, 1.0, 2.0])), max_size=6),
    max_size=8,
)


def database() -> sqlite3.Connection:
    sql = sqlite3.connect(":memory:", isolation_level=None)
    for script in MIGRATIONS["queue"]:
        sql.executescript(script)
    return sql


def post(sql: sqlite3.Connection, packs: Any, capacity: int | None = None) -> Posting:
    life = Life(incarnation=1, clock=FastClock(), random_bits=lambda _: 1)
    posting = Posting(sql, life, aged_us=0, quarantine_bytes_max=1000, capacity=capacity)
    for members in packs:
        intake = ingress.read(pack([reading(n, value=v) for n, v in members]), TRUST_DOMAIN)
        if members and intake is not None:
            posting.post(intake)
    posting.flush()
    return posting


@given(PACKS, PACKS)
def test_however_packs_come_the_first_reading_of_a_key_is_kept_and_others_are_quarantined(
    before: Any, after: Any
) -> None:
    """In one transaction or in two, the result is that of a plain dictionary."""
    sql = database()
    post(sql, before)
    post(sql, after)
    kept: dict[int, float] = {}
    reused = set()
    for seq, value in (one for members in [*before, *after] for one in members):
        if kept.setdefault(seq, value) != value:
            reused.add(seq)
    rows = dict(sql.execute("SELECT seq, hash FROM reading"))
    assert rows == {seq: reading(seq, value=value).hash() for seq, value in kept.items()}
    quarantined = {row[0] for row in sql.execute("SELECT first FROM quarantine")}
    assert quarantined == reused
    if kept:
        book = books.book_of(sql, device(), 7)
        assert set(kept) == {
            n for a, b in spans.load(sql, (book, RECEIVED)) for n in range(a, b + 1)
        }
        total = sum(int.from_bytes(digest) for digest in rows.values()) % (1 << 256)
        assert books.digests(sql, book).get(0, bytes(32)) == total.to_bytes(32)
        assert sum(sql.execute("SELECT disputed FROM book").fetchone()) == bool(reused)


def test_beyond_the_capacity_nothing_is_queued_and_everything_is_booked() -> None:
    sql = database()
    assert post(sql, [[(n, 1.0) for n in range(5)]], capacity=3).accepted == 3
    book = books.book_of(sql, device(), 7)
    assert list(spans.load(sql, (book, EVICTED))) == [(3, 4)]
    assert [row[0] for row in sql.execute("SELECT seq FROM reading")] == [0, 1, 2]


@pytest.mark.parametrize(("size", "kept"), [(900, 1), (1100, 0)])
def test_raw_bytes_of_quarantine_are_bounded_its_books_are_not(
    make_rig: Any, lab: Any, size: int, kept: int
) -> None:
    async def scenario() -> None:
        rig = make_rig(quarantine_bytes_max=1000)
        await rig.start()
        await rig.receive(lab.pack([], payload=b"\xff" * size, user={"range": "7/0/3"}))
        [(raw,)] = await rig.sql("SELECT raw FROM quarantine")
        assert (raw is not None) == bool(kept)
        assert (await rig.book())["quarantined"] == [[0, 3]]

    asyncio.run(scenario())


def test_a_bad_reading_without_a_seq_is_booked_by_the_range_of_its_pack(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        good = {-2: lab.device() + "/", -3: 1.79e9, "epoch": 7, "seq": 0, 0: "t", 2: 1.0}
        payload = cbor.dumps([good, good | {"seq": "one"}, good | {"seq": 2}])
        await rig.receive(lab.pack([], payload=payload, user={"range": "7/0/2"}))
        assert await rig.seqs() == [0, 2]
        assert (await rig.book())["quarantined"] == [[1, 1]]

    asyncio.run(scenario())


def test_a_quarantined_reading_that_comes_whole_after_all_is_queued(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack([], payload=b"\xff", user={"range": "7/0/3"}))
        await rig.receive(lab.pack(map(lab.reading, range(2, 6))))
        book = await rig.book()
        assert (book["quarantined"], book["received"]) == ([[0, 1]], [[2, 5]])

    asyncio.run(scenario())


def test_what_an_earlier_life_of_a_device_took_is_backfill() -> None:
    """It was refused for a while, and comes behind readings of the device's newest epoch."""
    sql = database()
    for epoch, seq in ((7, 0), (8, 0), (7, 1), (8, 1)):
        life = Life(incarnation=1, clock=FastClock(), random_bits=lambda _: 1)
        posting = Posting(sql, life, aged_us=0, quarantine_bytes_max=1000)
        late = reading(seq, epoch=epoch)
        intake = ingress.read(pack([late]), TRUST_DOMAIN)
        assert intake is not None
        posting.post(intake)
        posting.flush()
    rows = sql.execute("SELECT epoch, seq, state FROM reading JOIN book ON book.id = reading.book")
    assert set(rows) == {(7, 0, WAITING), (8, 0, WAITING), (7, 1, AGAIN), (8, 1, WAITING)}


def test_a_pack_of_bad_readings_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def counting(data: bytes) -> Any:
        hashed.append(len(data))
        return sha256(data)

    monkeypatch.setattr(posting, "sha256", counting)
    bad = {-2: device() + "/", "epoch": 7, 0: "t", 2: float("nan")}
    payload = cbor.dumps([bad | {"seq": seq} for seq in range(100)])
    life = Life(incarnation=1, clock=FastClock(), random_bits=lambda _: 1)
    sql = database()
    work = Posting(sql, life, aged_us=0, quarantine_bytes_max=1000)
    intake = ingress.read(pack([], payload=payload), TRUST_DOMAIN)
    assert intake is not None
    work.post(intake)
    work.flush()
    assert hashed == [len(payload)]
    assert sql.execute("SELECT count(*), max(hash) FROM quarantine").fetchone() == (
        100,
        sha256(payload).digest(),
    )
