import asyncio
import sqlite3
from functools import partial
from typing import Any

import pytest

from plantroom.gateway import answers, quarantine, tables
from plantroom.gateway.ingress import UNDECODABLE
from plantroom.gateway.stored import reading_from
from plantroom.gateway.tables import Life
from plantroom.wire import cbor, senml
from plantroom.wire.errors import CheckFailedError, PackError
from plantroom.wire.senml_record import N, T, V
from tests.fakes.gateway_rig import FastClock

LIFE = Life(incarnation=99, clock=FastClock(), random_bits=lambda bits: bits)
RANGES = "SELECT kind, first, last, reason FROM span ORDER BY kind, first"


def play(make_rig: Any, scenario: Any) -> None:
    async def run() -> None:
        rig = make_rig()
        await rig.start()
        await scenario(rig)

    asyncio.run(run())


def set_apart(lab: Any, raw: bytes, *, reason: str = UNDECODABLE) -> Any:
    """Make it look as if an older program could not read these bytes: readings 0 to 4."""

    def work(sql: sqlite3.Connection) -> None:
        tables.quarantine(
            sql,
            LIFE,
            lab.device(),
            (7, 0, 4),
            reason=reason,
            text="an older program",
            digest=b"h" * 32,
            raw=raw,
            bytes_max=10_000,
        )

    return work


def test_a_replay_after_a_fix_queues_what_was_set_apart(make_rig: Any, lab: Any) -> None:
    raw = senml.encode(tuple(map(lab.reading, range(5))))

    async def scenario(rig: Any) -> None:
        await rig.receive(lab.pack([], payload=b"\xff", user={"range": "7/0/4"}))
        await rig.receive(lab.pack(map(lab.reading, range(5, 8))))
        await rig.database.write(lambda sql: sql.execute("DELETE FROM quarantine") and None)
        await rig.database.write(set_apart(lab, raw))
        assert (3, 0, 4, UNDECODABLE) in await rig.database.read(lambda s: list(s.execute(RANGES)))
        (item,) = await rig.database.read(quarantine.items)
        assert item.size == len(raw)
        replay = partial(quarantine.replay, item=item, life=LIFE)
        assert await rig.database.write(replay) == 5
        assert [row[:3] for row in await rig.database.read(lambda s: list(s.execute(RANGES)))] == [
            (0, 0, 7)
        ]
        assert (await rig.queue.standings()).waiting.readings == 8
        (item,) = await rig.database.read(quarantine.items)
        assert (item.outcome, item.size) == ("replayed", None)
        with pytest.raises(CheckFailedError, match="replayed already"):
            await rig.database.write(partial(quarantine.replay, item=item, life=LIFE))

    play(make_rig, scenario)


def test_what_was_set_apart_without_a_key_comes_once_and_with_the_time_that_it_came_at(
    make_rig: Any, lab: Any
) -> None:
    """Its good neighbours were stored when they came; a replay must not number them again."""
    pack = [{N: "a", V: 1.0}, {N: "b", T: -60, "v": 2.0}]

    async def scenario(rig: Any) -> None:
        await rig.receive(lab.pack([], payload=cbor.dumps(pack)))
        assert (await rig.queue.standings()).waiting.readings == 1
        (item,) = await rig.database.read(quarantine.items)
        left = await rig.database.read(partial(quarantine.raw, item=item))
        assert cbor.loads(left, bytes_max=100, error=PackError) == pack[1:]
        with pytest.raises(CheckFailedError, match="no-value"):
            await rig.database.write(partial(quarantine.replay, item=item, life=LIFE))
        mended = cbor.dumps([{N: "b", T: -60, V: 2.0}])  # as a newer program would read it
        await rig.database.write(
            lambda sql: sql.execute("UPDATE quarantine SET raw = ?", (mended,)) and None
        )
        assert await rig.database.write(partial(quarantine.replay, item=item, life=LIFE)) == 1
        bodies = await rig.database.read(
            lambda sql: [row[0] for row in sql.execute("SELECT body FROM reading ORDER BY id")]
        )
        assert len(bodies) == 2
        assert reading_from(bodies[1]).time_us == item.at_us - 60_000_000

    play(make_rig, scenario)


def test_what_is_still_bad_is_refused_again_and_nothing_changes(make_rig: Any, lab: Any) -> None:
    async def scenario(rig: Any) -> None:
        await rig.receive(lab.pack([], payload=b"\xff\x00", user={"range": "7/0/4"}))
        await rig.receive(lab.pack([lab.reading(5), lab.reading(6, name="hvac-002")]))
        await rig.receive(lab.pack([lab.reading(5, value=9.0)]))
        items = await rig.database.read(quarantine.items)
        assert {item.reason for item in items} == {UNDECODABLE, "foreign-device", "epoch-reuse"}
        for item in items:
            with pytest.raises(CheckFailedError, match=f"refused again, {item.reason}"):
                await rig.database.write(partial(quarantine.replay, item=item, life=LIFE))
        assert await rig.database.read(quarantine.items) == items

    play(make_rig, scenario)


def test_a_drop_gives_the_bytes_up_and_keeps_the_rest(make_rig: Any, lab: Any) -> None:
    async def scenario(rig: Any) -> None:
        await rig.database.write(set_apart(lab, b"1234"))
        (item,) = await rig.database.read(quarantine.items)
        assert await rig.database.read(partial(quarantine.raw, item=item)) == b"1234"
        drop = partial(quarantine.drop, item=item, why="a test device", at_us=5)
        await rig.database.write(drop)
        assert await rig.database.read(lambda s: tables.meta(s, "quarantine_bytes")) == 0
        (item,) = await rig.database.read(quarantine.items)
        assert (item.outcome, item.outcome_us) == ("dropped: a test device", 5)
        assert await rig.database.read(partial(quarantine.raw, item=item)) is None
        with pytest.raises(CheckFailedError, match="dropped"):
            await rig.database.write(partial(quarantine.drop, item=item, why="x", at_us=6))

    play(make_rig, scenario)


def test_bytes_that_are_not_kept_cannot_be_replayed(make_rig: Any, lab: Any) -> None:
    async def scenario(rig: Any) -> None:
        await rig.database.write(set_apart(lab, b"x" * 20_000))
        (item,) = await rig.database.read(quarantine.items)
        assert item.size is None
        with pytest.raises(CheckFailedError, match="not kept"):
            await rig.database.write(partial(quarantine.replay, item=item, life=LIFE))

    play(make_rig, scenario)


def test_a_reading_that_the_cloud_could_not_read_is_sent_again(make_rig: Any, lab: Any) -> None:
    async def scenario(rig: Any) -> None:
        work = set_apart(lab, lab.reading(3).canonical(), reason="unreadable")
        await rig.database.write(work)
        (item,) = await rig.database.read(quarantine.items)
        assert await rig.database.write(partial(quarantine.replay, item=item, life=LIFE)) == 1

    play(make_rig, scenario)


def test_what_was_replayed_and_cannot_be_read_again_is_kept_again(make_rig: Any, lab: Any) -> None:
    def refuse(sql: sqlite3.Connection) -> None:
        """Have the cloud be unable to read what waits, as if the fix had not reached it yet."""
        for row in sql.execute(
            "SELECT r.id, r.book, b.device, b.epoch, r.seq FROM reading r JOIN book b"
            " ON b.id = r.book"
        ).fetchall():
            answers.culprit(sql, LIFE, answers.Sent(*row), quarantine_bytes_max=10_000)

    async def scenario(rig: Any) -> None:
        raw = lab.reading(3).canonical()
        await rig.receive(lab.pack([lab.reading(3)]))
        for _ in range(2):
            await rig.database.write(refuse)
            (item,) = await rig.database.read(quarantine.items)
            assert (item.reason, item.outcome, item.size) == ("unreadable", "", len(raw))
            assert await rig.database.read(partial(quarantine.raw, item=item)) == raw
            assert await rig.database.read(lambda sql: tables.meta(sql, "quarantine_bytes", 0)) == (
                len(raw)
            )
            assert await rig.database.write(partial(quarantine.replay, item=item, life=LIFE)) == 1
        (item,) = await rig.database.read(quarantine.items)
        assert item.outcome == "replayed"

    play(make_rig, scenario)
