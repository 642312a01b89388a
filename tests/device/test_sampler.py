import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from plantroom.device.driver import Taken
from plantroom.device.outbox import Stored
from plantroom.device.sampler import RETRY_S, WAIT_S_MAX, Sampler
from plantroom.wire.errors import StorageFullError, UnreachableError
from tests.device.stand_ins import open_outbox, sample
from tests.fakes.waiting import until


class ListDriver:
    """Gives what it was given."""

    def __init__(self, *values: float, waits: bool = False) -> None:
        self.left = list(values)
        self._waits = waits
        self.position: str | None = "not resumed"
        self.due_us: int | None = 0

    @property
    def waits(self) -> bool:
        return self._waits

    def resume(self, position: str | None) -> None:
        self.position = position

    def due_in_us(self) -> int | None:
        return self.due_us if self.left else None

    def take(self, count_max: int) -> Sequence[Taken]:
        now, self.left = self.left[:count_max], self.left[count_max:]
        return [Taken(sample=sample(value), position=str(value)) for value in now]

    def fresh(self) -> Taken:
        if not self.left:
            raise UnreachableError("the recording has ended")
        return Taken(sample=sample(self.left.pop(0)))

    def info(self) -> dict[str, str]:
        return {"left": str(len(self.left))}


def test_what_is_due_is_kept_in_one_transaction(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    commits: list[int] = []
    outbox.watch(lambda: commits.append(1))
    sampler = Sampler(ListDriver(1, 2, 3), outbox, say=print)
    sampler.start()
    assert sampler.step() == 0
    assert (outbox.counts.unsent, len(commits), sampler.taken_total) == (3, 1, 3)
    assert sampler.ended
    assert sampler.step() == WAIT_S_MAX
    outbox.close()


def test_nothing_is_taken_before_it_is_due(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    driver = ListDriver(1)
    driver.due_us = 2_500_000
    assert Sampler(driver, outbox, say=print).step() == 2.5
    assert outbox.counts.held == 0
    outbox.close()


def test_driver_goes_on_where_the_outbox_says(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    Sampler(ListDriver(1, 2), outbox, say=print).step()
    driver = ListDriver(3)
    Sampler(driver, outbox, say=print).start()
    assert driver.position == "2"
    outbox.close()


def test_driver_that_can_wait_waits_while_the_outbox_is_full(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db", readings_max=2)
    sampler = Sampler(ListDriver(1, 2, 3, waits=True), outbox, say=print)
    sampler.step()
    assert sampler.step() == WAIT_S_MAX
    assert not sampler.ended
    assert (outbox.counts.unsent, outbox.counts.evicted) == (2, {})
    outbox.sent(outbox.take(1, 10**6))
    sampler.step()
    assert [r.points[0].value for r in outbox.waiting(9)] == [2, 3]
    assert sampler.ended
    outbox.close()


def test_driver_that_cannot_wait_displaces_the_oldest(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db", readings_max=2)
    Sampler(ListDriver(1, 2, 3), outbox, say=print).step()
    assert [r.points[0].value for r in outbox.waiting(9)] == [2, 3]
    assert outbox.counts.evicted == {"full": 1}
    outbox.close()


def test_full_disk_is_said_once_and_what_was_taken_is_kept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    said: list[str] = []
    driver = ListDriver(1, 2)
    sampler = Sampler(driver, outbox, say=said.append)
    append = outbox.append

    def full(_taken: Sequence[Taken], *, displace: bool = True) -> Stored:
        raise StorageFullError(f"no space left {displace}")

    monkeypatch.setattr(outbox, "append", full)
    assert [sampler.step(), sampler.step()] == [RETRY_S, RETRY_S]
    assert len(said) == 1
    assert not sampler.ended
    with pytest.raises(UnreachableError):
        sampler.read_now()
    monkeypatch.setattr(outbox, "append", append)
    sampler.step()
    assert [r.points[0].value for r in outbox.waiting(9)] == [1, 2]
    assert len(said) == 2
    outbox.close()


def test_fresh_reading_is_returned_and_kept(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    sampler = Sampler(ListDriver(7), outbox, say=print)
    reading = sampler.read_now()
    assert reading.points[0].value == 7
    assert outbox.waiting(9) == (reading,)
    with pytest.raises(UnreachableError, match="ended"):
        sampler.read_now()
    outbox.close()


def test_fresh_reading_displaces_nothing_that_can_wait(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db", readings_max=1)
    sampler = Sampler(ListDriver(1, 2, waits=True), outbox, say=print)
    sampler.step()
    with pytest.raises(UnreachableError, match="full"):
        sampler.read_now()
    assert outbox.counts.evicted == {}
    outbox.close()


def test_thread_wakes_when_there_is_room_and_ends_when_asked(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db", readings_max=1)
    sampler = Sampler(ListDriver(1, 2, 3, waits=True), outbox, say=print)
    thread = threading.Thread(target=sampler.run)
    thread.start()
    for value in (1, 2, 3):
        until(lambda: outbox.counts.unsent, deadline_s=60)
        (reading,) = outbox.take(1, 10**6)
        assert reading.points[0].value == value
        outbox.sent((reading,))
    sampler.stop()
    thread.join(60)
    assert not thread.is_alive()
    outbox.close()
