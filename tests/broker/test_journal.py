import asyncio
import random
from collections.abc import Awaitable
from types import SimpleNamespace

import pytest

from plantroom.broker import journal as module
from plantroom.broker.guard import Peer
from plantroom.broker.journal import Journal
from plantroom.broker.memory import MemorySink
from plantroom.broker.runs import Origin, Run
from plantroom.broker.sink import Batch, RetainedSaved, SessionDropped
from plantroom.broker.tree import Match
from plantroom.broker.turns import DISK
from plantroom.wire.errors import StorageFullError
from tests.broker.harness import JumpingClock, publish, until
from tests.sim import virtual_loop


class Recorder:
    """An outlet that writes down what it is told."""

    def __init__(self) -> None:
        self.peer = Peer(None, "here")
        self.open = self.accepted = True
        self.blocked = False
        self.unread_bytes = self.partial_bytes = 0
        self.turn = 0
        self.log: list[object] = []

    def write(self, data: bytes) -> None:
        self.log.append(data)

    def write_burst(self, data: bytes) -> None:
        self.write(data)

    def too_slow(self, why: str, limit: str) -> None:
        self.log.append((why, limit))

    def acknowledged(self, count: int) -> None:
        self.log.append(count)

    def refused(self, acknowledgements: bytes) -> None:
        self.log.append(("refused", acknowledgements))

    def wait(self, why: int = DISK) -> bool:
        self.log.append(("wait", why))
        return True

    def resume(self, why: int = DISK) -> None:  # noqa: ARG002 -- of one reason only
        self.log.append("resume")

    def fail(self, code: int, reason: str) -> None:
        self.log.append((code, reason))

    def abort(self, reason: str) -> None:
        self.log.append(reason)

    def overdue(self, now_us: int) -> str | None:
        return str(now_us)


class SlowSink(MemorySink):
    """Commits only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.batches: list[Batch] = []

    def commit(self, batch: Batch) -> Awaitable[int]:
        self.batches.append(batch)
        return self._later(batch)

    async def _later(self, batch: Batch) -> int:
        await self.go.wait()
        return await super().commit(batch)


def tapped_run() -> Run:
    return Run(Origin(1, "w", "w"), publish("a"), version=4, match=Match(), at_us=0, tapped=True)


def test_acknowledgement_waits_for_the_commit_and_groups_form_meanwhile() -> None:
    async def scenario() -> None:
        sink, outlet = SlowSink(), Recorder()
        journal = Journal(sink, JumpingClock(), depth_bytes_max=10)
        async with asyncio.TaskGroup() as group:
            group.create_task(journal.serve())
            journal.run(tapped_run())
            journal.acknowledge(outlet, b"1", count=1)
            await until(lambda: sink.batches)
            for number in (b"2", b"3"):
                journal.run(tapped_run())
                journal.acknowledge(outlet, number, count=1, size_bytes=8)
            assert journal.deep
            journal.pause(outlet)
            assert outlet.log == []
            sink.go.set()
            await until(lambda: len(outlet.log) == 7)
            assert outlet.log == ["resume", b"1", 1, b"2", 1, b"3", 1]
            assert len(sink.batches) == 2
            journal.close()

    asyncio.run(scenario())


def test_failed_group_is_undone_and_what_is_owed_is_tried_again() -> None:
    async def scenario() -> None:
        sink, outlet = MemorySink(), Recorder()
        journal = Journal(sink, JumpingClock(), depth_bytes_max=10)
        undone: list[str] = []
        heard: list[bool] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(journal.serve())
            sink.fault = StorageFullError("no space left")
            journal.run(tapped_run())
            journal.acknowledge(outlet, b"ok", count=1)
            journal.acknowledge(outlet, b"no", count=0, firm=True)
            journal.bind(
                RetainedSaved(topic="t", packet=b"p", publisher="w", at_us=1),
                lambda: undone.append("retained"),
            )
            journal.change(SessionDropped(sid=4))
            journal.after(heard.append)
            await until(lambda: heard)
            assert heard == [False]
            assert undone == ["retained"]
            assert outlet.log == [("refused", b"ok"), 1, b"no", 0]
            assert journal.failing is sink.fault
            sink.fault = None
            await until(lambda: journal.commits)
            assert journal.failing is None
            assert not sink._retained
            journal.close()

    asyncio.run(scenario())


def test_nothing_to_store_commits_nothing() -> None:
    async def scenario() -> None:
        sink, outlet = SlowSink(), Recorder()
        journal = Journal(sink, JumpingClock(), depth_bytes_max=10)
        async with asyncio.TaskGroup() as group:
            group.create_task(journal.serve())
            journal.acknowledge(outlet, b"1", count=1)
            await until(lambda: outlet.log)
            assert sink.batches == []
            journal.close()

    asyncio.run(scenario())


def test_a_few_publishes_wait_for_more_unless_there_are_enough_or_somebody_waits() -> None:
    async def scenario() -> None:
        sink, outlet = SlowSink(), Recorder()
        sink.go.set()
        journal = Journal(sink, JumpingClock(), depth_bytes_max=1 << 20, gather_s=1.0)
        loop = asyncio.get_running_loop()

        async def committed(number: int, what: str) -> float:
            begin_s = loop.time()
            await until(lambda: journal.commits == number, what)
            return loop.time() - begin_s

        async def woken() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        def publishes(count: int) -> None:
            for _ in range(count):
                journal.run(tapped_run())
                journal.acknowledge(outlet, b"1", count=1)

        async with asyncio.TaskGroup() as group:
            group.create_task(journal.serve())
            await asyncio.sleep(0)
            journal._ended_s = -1.0  # a pause
            publishes(1)
            assert await committed(1, "the first after a pause") < 0.5
            publishes(1)
            await woken()
            publishes(1)
            assert await committed(2, "two that came one by one") > 0.5
            publishes(8)
            assert await committed(3, "as many as are enough") < 0.5
            publishes(1)
            await woken()
            journal.after(lambda _: None)
            assert await committed(4, "what somebody waits for") < 0.5
            publishes(1)
            assert await committed(5, "one that waits in vain") > 0.5
            publishes(1)
            assert await committed(6, "the one after it") < 0.5
            journal.close()

    virtual_loop.run(scenario(), random.Random(0))  # noqa: S311 -- nothing here draws from it


def test_where_many_come_three_times_as_many_share_a_commit() -> None:
    async def scenario() -> None:
        sink, outlet = SlowSink(), Recorder()
        sink.go.set()
        journal = Journal(sink, JumpingClock(), depth_bytes_max=1 << 20, gather_s=5.0)
        journal._came_s = 1000.0

        async def publishes(count: int) -> None:
            for _ in range(count):
                journal.run(tapped_run())
                journal.acknowledge(outlet, b"1", count=1)
            for _ in range(5):
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(journal.serve())
            await asyncio.sleep(0)
            journal._ended_s = asyncio.get_running_loop().time()
            await publishes(1)
            await publishes(8)
            assert journal.commits == 0, "enough where few come"
            await publishes(15)
            await until(lambda: journal.commits == 1, "one commit of twenty-four")
            assert len(sink.batches) == 1
            journal.close()

    virtual_loop.run(scenario(), random.Random(0))  # noqa: S311 -- nothing here draws from it


@pytest.mark.parametrize(
    ("came_s", "naps"),
    [
        pytest.param(0.1, 0, id="few"),
        pytest.param(1.0, 1, id="many, but no full group"),
        pytest.param(100.0, 0, id="more than enough"),
    ],
)
def test_the_loop_sleeps_over_publishes_that_make_no_full_group(
    monkeypatch: pytest.MonkeyPatch, came_s: float, naps: int
) -> None:
    async def scenario() -> None:
        sink, outlet = SlowSink(), Recorder()
        sink.go.set()
        journal = Journal(sink, JumpingClock(), depth_bytes_max=1 << 20, gather_s=5.0)
        journal._came_s = came_s
        loop = asyncio.get_running_loop()
        slept_s: list[float] = []

        def publish_one() -> None:
            journal.run(tapped_run())
            journal.acknowledge(outlet, b"1", count=1)

        def sleep(seconds: float) -> None:  # what comes meanwhile is read afterwards
            slept_s.append(seconds)
            loop.call_soon(publish_one)
            loop.call_soon(journal.after, lambda _: None)

        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep))
        async with asyncio.TaskGroup() as group:
            group.create_task(journal.serve())
            await asyncio.sleep(0)
            journal._ended_s = loop.time()
            publish_one()
            for _ in range(5):
                await asyncio.sleep(0)
            if not naps:
                assert not slept_s
                journal.after(lambda _: None)
            await until(lambda: journal.commits == 1, "one commit")
            assert len(slept_s) == naps
            assert all(seconds <= 0.01 for seconds in slept_s)
            assert len(outlet.log) == 2 * (1 + naps), "answered together with what came meanwhile"
            journal.close()

    asyncio.run(scenario())


def test_how_many_come_is_counted_from_the_last_group_not_from_the_end_of_its_commit() -> None:
    async def scenario() -> None:
        sink, outlet = SlowSink(), Recorder()
        sink.go.set()
        journal = Journal(sink, JumpingClock(), depth_bytes_max=1 << 20, gather_s=0.05)
        async with asyncio.TaskGroup() as group:
            group.create_task(journal.serve())
            await asyncio.sleep(0)
            journal._ended_s = asyncio.get_running_loop().time()
            journal._begun_s = journal._ended_s - 1000.0
            journal.run(tapped_run())
            journal.acknowledge(outlet, b"1", count=1)
            await until(lambda: journal.commits == 1)
            assert journal._came_s < 0.001
            journal.close()

    asyncio.run(scenario())
