"""Ingest against the real store: what is answered, and only after what."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from plantroom.cloud.ingest import Ingest
from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.sqlite_store import SqliteStore
from plantroom.cloud.store import Committed, Delivery
from plantroom.wire import cbor, envelope
from plantroom.wire.clock import SystemClock
from plantroom.wire.envelope import Batch, Book, Hello, Receipt, Refill, Welcome
from plantroom.wire.errors import StorageFullError
from plantroom.wire.link import Message
from plantroom.wire.reading import Reading
from tests.fakes.deliveries import DEVICE, delivery, reading


class Faulty(SqliteStore):
    """A store that can be told to fail."""

    full = False
    poison: int | None = None

    async def commit(self, deliveries: Sequence[Delivery]) -> Committed:
        if self.full:
            raise StorageFullError("no space left")
        if any(each.batch.number == self.poison for each in deliveries):
            raise RuntimeError("a defect")
        return await super().commit(deliveries)


Play = Callable[[Ingest, Faulty, list[Reading]], Coroutine[Any, Any, None]]


def play(path: Path, act: Play) -> None:
    async def main() -> None:
        store = Faulty(path / "store.db")
        shown: list[Reading] = []
        ingest = Ingest(
            store,
            belongs=belongs_by_name,
            clock=SystemClock(),
            shown=lambda readings, _: shown.extend(readings),
        )
        try:
            await act(ingest, store, shown)
        finally:
            store.close()

    asyncio.run(main())


def live(*seqs: int, number: int = 1, site: str = "building-1", incarnation: int = 7) -> Message:
    made = delivery([reading(seq) for seq in seqs], number=number).batch
    batch = Batch(incarnation=incarnation, number=number, lane="live", readings=made.readings)
    return Message(topic=f"v1/{site}/uplink/gateway/live", payload=envelope.encode(batch))


def answers(messages: Sequence[Message]) -> list[Any]:
    return [envelope.decode(each.payload, Receipt, Welcome, Refill) for each in messages]


def test_batches_share_a_commit_and_each_gets_its_receipt(tmp_path: Path) -> None:
    async def act(ingest: Ingest, _: Faulty, shown: list[Reading]) -> None:
        found = await ingest.take([live(0, 1), live(2, number=2), live(9, number=3, site="other")])
        assert [each.topic for each in found] == [
            "v1/building-1/receipt/gateway",
            "v1/building-1/receipt/gateway",
            "v1/other/receipt/gateway",
        ]
        receipts = answers(found)
        assert len({receipt.commit for receipt in receipts}) == 1
        assert receipts[2].quarantined[0].reason == "foreign-device"
        assert [each.seq for each in shown] == [0, 1, 2]
        assert ingest.counts["stored"] == 3
        assert ingest.quarantined == {"foreign-device": 1}

    play(tmp_path, act)


def test_nothing_is_answered_when_nothing_was_stored(tmp_path: Path) -> None:
    async def act(ingest: Ingest, store: Faulty, shown: list[Reading]) -> None:
        store.full = True
        with pytest.raises(StorageFullError):
            await ingest.take([live(0)])
        assert shown == []
        store.full = False
        (receipt,) = answers(await ingest.take([live(0)]))
        assert receipt.stored

    play(tmp_path, act)


def test_poisonous_batch_is_unreadable_and_its_neighbours_are_stored(tmp_path: Path) -> None:
    async def act(ingest: Ingest, store: Faulty, _: list[Reading]) -> None:
        store.poison = 2
        found = answers(await ingest.take([live(0), live(1, number=2), live(2, number=3)]))
        by_number = {receipt.number: receipt for receipt in found}
        assert by_number[2].unreadable
        assert not by_number[2].stored
        assert by_number[1].stored
        assert by_number[3].stored
        (book,) = await store.books()
        assert list(book.stored) == [(0, 0), (2, 2)]

    play(tmp_path, act)


def test_rubbish_is_counted_and_not_answered(tmp_path: Path) -> None:
    async def act(ingest: Ingest, _: Faulty, __: list[Reading]) -> None:
        rubbish = Message(topic="v1/building-1/uplink/gateway/live", payload=b"rubbish")
        assert len(await ingest.take([rubbish, live(0)])) == 1
        assert ingest.counts["refused"] == 1

    play(tmp_path, act)


def test_broken_body_is_answered_unreadable_with_store_and_commit(tmp_path: Path) -> None:
    async def act(ingest: Ingest, store: Faulty, _: list[Reading]) -> None:
        table = {"v": 1, "k": "batch", "incarnation": 7, "number": 3, "lane": "live", "body": b"x"}
        broken = Message(topic="v1/building-1/uplink/gateway/live", payload=cbor.dumps(table))
        (receipt,) = answers(await ingest.take([broken]))
        assert (receipt.incarnation, receipt.number, receipt.unreadable) == (7, 3, True)
        assert receipt.store_id == store.store_id

    play(tmp_path, act)


def test_hello_tells_how_far_a_device_has_counted(tmp_path: Path) -> None:
    async def act(ingest: Ingest, store: Faulty, _: list[Reading]) -> None:
        await ingest.take([live(0)])
        books = (
            Book(device=DEVICE, epoch=1, highest=3),
            Book(device="spiffe://building-2.smart.local/agent/x", epoch=1, highest=3),
        )
        hello = Hello(incarnation=7, number=1, gateway="gateway", books=books)
        topic = "v1/building-1/uplink/gateway/hello"
        found = await ingest.take([Message(topic=topic, payload=envelope.encode(hello))])
        welcome, refill = answers(found)
        assert welcome.books[0].ranges == ((0, 0),)
        assert [(hole.first, hole.last) for hole in refill.holes] == [(1, 3)]
        assert found[1].topic == "v1/building-1/refill/gateway"
        assert len(await store.books()) == 1, "the other site's device opens no book"

    play(tmp_path, act)


def test_former_incarnation_that_speaks_again_is_an_alarm(tmp_path: Path) -> None:
    async def act(ingest: Ingest, _: Faulty, __: list[Reading]) -> None:
        for incarnation in (1, 1, 2, 2):
            await ingest.take([live(0, incarnation=incarnation)])
        assert ingest.counts["interleaved"] == 0
        await ingest.take([live(0, incarnation=1)])
        assert ingest.counts["interleaved"] == 1

    play(tmp_path, act)


def test_metrics_say_all_of_it(tmp_path: Path) -> None:
    async def act(ingest: Ingest, _: Faulty, __: list[Reading]) -> None:
        await ingest.take([live(0), live(0, number=2)])
        found = {metric.name: metric.value for metric in ingest.metrics()}
        assert ingest.figures()["interleaved"] == 0, "what did not happen is counted too"
        assert found["plantroom_ingest_stored_total"] == 1
        assert found["plantroom_ingest_duplicates_total"] == 1

    play(tmp_path, act)


def hello(incarnation: int = 7, **more: Any) -> Message:
    said = Hello(incarnation=incarnation, number=1, gateway="gateway", **more)
    return Message(topic="v1/building-1/uplink/gateway/hello", payload=envelope.encode(said))


def alarms(messages: Sequence[Message]) -> list[str]:
    return [each.topic for each in messages if "/alarm/" in each.topic and each.retain]


def states(messages: Sequence[Message]) -> list[str]:
    return [json.loads(each.payload)["state"] for each in messages if "/alarm/" in each.topic]


def test_a_store_restored_from_a_backup_takes_a_new_name_and_is_refilled(tmp_path: Path) -> None:
    async def before(ingest: Ingest, _: Faulty, __: list[Reading]) -> None:
        await ingest.take([live(0, 1)])

    play(tmp_path, before)
    backup = (tmp_path / "store.db").read_bytes()
    known: dict[str, Any] = {}

    async def later(ingest: Ingest, _: Faulty, __: list[Reading]) -> None:
        (receipt,) = answers(await ingest.take([live(2, 3, number=2)]))
        known.update(store_id=receipt.store_id, commit=receipt.commit)

    play(tmp_path, later)
    (tmp_path / "store.db").write_bytes(backup)

    async def restored(ingest: Ingest, store: Faulty, _: list[Reading]) -> None:
        assert store.store_id == known["store_id"]
        found = await ingest.take([hello(**known)])
        assert alarms(found) == ["v1/building-1/alarm/store-restored/gateway"]
        welcome = answers([each for each in found if "/receipt/" in each.topic])[0]
        assert welcome.store_id == store.store_id != known["store_id"]
        (receipt,) = answers(await ingest.take([live(2, 3, number=2)]))
        assert receipt.store_id == store.store_id
        again = await ingest.take([hello(store_id=receipt.store_id, commit=receipt.commit)])
        assert alarms(again) == []
        assert store.store_id == receipt.store_id
        whole = hello(
            store_id=receipt.store_id,
            commit=receipt.commit,
            books=(Book(device=DEVICE, epoch=1, highest=3, ranges=((0, 3),)),),
        )
        assert states(await ingest.take([whole])) == ["cleared"]
        assert states(await ingest.take([whole])) == []

    play(tmp_path, restored)

    async def after(_: Ingest, store: Faulty, __: list[Reading]) -> None:
        assert store.store_id != known["store_id"]

    play(tmp_path, after)


def test_a_restored_store_that_has_counted_on_is_found_out_by_its_history(tmp_path: Path) -> None:
    """Another gateway was quicker: the count is beyond what this one has heard of."""

    async def before(ingest: Ingest, _: Faulty, __: list[Reading]) -> None:
        await ingest.take([live(0, 1)])

    play(tmp_path, before)
    backup = (tmp_path / "store.db").read_bytes()
    heard: dict[str, Any] = {}

    async def later(ingest: Ingest, _: Faulty, __: list[Reading]) -> None:
        (receipt,) = answers(await ingest.take([live(2, 3, number=2)]))
        heard.update(store_id=receipt.store_id, commit=receipt.commit)
        (welcome,) = answers(await ingest.take([hello(**heard, heard={receipt.branch: 2})]))[:1]
        assert welcome.knows == {receipt.branch: 2}
        heard.update(commit=welcome.commit, heard={welcome.branch: welcome.commit})

    play(tmp_path, later)
    (tmp_path / "store.db").write_bytes(backup)

    async def restored(ingest: Ingest, store: Faulty, _: list[Reading]) -> None:
        for number in range(10):
            await ingest.take([live(10 + number, number=number)])
        assert alarms(await ingest.take([hello(store_id=store.store_id, commit=9)])) == []
        found = await ingest.take([hello(**heard)])
        assert alarms(found) == ["v1/building-1/alarm/store-restored/gateway"]
        welcome = answers([each for each in found if "/receipt/" in each.topic])[0]
        assert welcome.store_id == store.store_id != heard["store_id"]
        assert welcome.knows == {}

    play(tmp_path, restored)


def test_a_store_that_its_gateway_has_left_behind_takes_a_new_name(tmp_path: Path) -> None:
    """The same backup was put in place twice: its gateway would ignore it for ever."""

    async def act(ingest: Ingest, store: Faulty, _: list[Reading]) -> None:
        left = store.store_id
        assert alarms(await ingest.take([hello(store_id="b", commit=3, former=("x",))])) == []
        found = await ingest.take([hello(store_id="b", commit=3, former=("x", left))])
        assert alarms(found) == ["v1/building-1/alarm/store-restored/gateway"]
        assert answers(found[-1:])[0].store_id == store.store_id not in {left, "b"}

    play(tmp_path, act)


def test_an_alarm_about_a_damaged_store_stands_while_a_gateway_misses_something(
    tmp_path: Path,
) -> None:
    async def act(ingest: Ingest, store: Faulty, _: list[Reading]) -> None:
        assert await ingest.damaged([]) == []
        aside = [tmp_path / "store.db.damaged-1"]
        assert alarms(await ingest.damaged(aside)) == ["v1/cloud/alarm/file-damaged/store"]
        book = Book(device=DEVICE, epoch=1, highest=1, ranges=((0, 1),))
        first = hello(store_id="former", commit=9, books=(book,))
        assert states(await ingest.take([first])) == []
        again = hello(store_id=store.store_id, commit=1, books=(book,))
        assert states(await ingest.take([again])) == [], "it is asked for"
        await ingest.take([live(0, 1)])
        found = await ingest.take([again])
        assert alarms(found) == ["v1/cloud/alarm/file-damaged/store"]
        assert states(found) == ["cleared"]
        assert states(await ingest.take([again])) == []
        assert await ingest.damaged(aside) == [], "it has something: that was said"

    play(tmp_path, act)


def test_a_gateway_that_has_just_started_is_asked_for_every_hole_of_its_site(
    tmp_path: Path,
) -> None:
    """Its disk may be gone, so that it no longer knows of the book."""

    async def act(ingest: Ingest, _: Faulty, __: list[Reading]) -> None:
        await ingest.take([live(0, 5)])
        found = await ingest.take([hello(incarnation=8)])
        refill = next(one for one in answers(found) if isinstance(one, Refill))
        assert [(hole.device, hole.first, hole.last) for hole in refill.holes] == [(DEVICE, 1, 4)]
        assert len(await ingest.take([hello(incarnation=8)])) == 1  # of its own books from now on

    play(tmp_path, act)


def test_two_gateways_with_one_identity_raise_an_alarm_and_nothing_is_doubled(
    tmp_path: Path,
) -> None:
    async def act(ingest: Ingest, store: Faulty, _: list[Reading]) -> None:
        assert alarms(await ingest.take([live(0, 1, incarnation=1)])) == []
        assert alarms(await ingest.take([live(1, 2, incarnation=2)])) == []
        found = await ingest.take([live(2, 3, incarnation=1, number=2)])
        assert alarms(found) == ["v1/building-1/alarm/interleaved-gateway/gateway"]
        (book,) = await store.books()
        assert list(book.stored) == [(0, 3)]
        assert ingest.counts["stored"] == 4
        assert states(await ingest.take([live(4, incarnation=1, number=3)])) == [], "too early"
        ingest._interleaved_us.clear()  # as after a while, or a start
        assert states(await ingest.take([live(5, incarnation=1, number=4)])) == ["cleared"]
        assert states(await ingest.take([live(6, incarnation=1, number=5)])) == []

    play(tmp_path, act)
