from plantroom.device.updater_download import Patience
from plantroom.device.updater_slots import Slots
from plantroom.device.updater_work import Work
from tests.fakes.ota_author import IMAGE, Author
from tests.fakes.ota_device import Inline, SimStorage


class Situation:
    def __init__(self) -> None:
        self.storage = SimStorage()
        self.slots = Slots(self.storage, version="1", sequence=0, boots=2, where="x")
        self.said: list[tuple[str, str]] = []
        self.work = Work(
            Author().release(),
            storage=self.storage,
            installer=self.slots,
            patience=Patience(),
            campaign="spring",
            tell=lambda state, code, _text: self.said.append((state, code)),
            start=Inline,
            now_s=0.0,
        )

    def finish(self) -> None:
        for _ in range(20):
            self.work.step(0.0)

    def give_all(self) -> None:
        while (get := self.work.request(0.0)) is not None:
            for number in get.wanted:
                data = IMAGE[number * 16384 : (number + 1) * 16384]
                self.work.receive(str(number), data, 0.0, broadcast=False)


def test_a_release_is_brought_in() -> None:
    situation = Situation()
    situation.give_all()
    situation.finish()
    assert situation.said == [("DOWNLOADED", ""), ("VERIFIED", ""), ("UPDATING", "")]
    assert situation.work.installed
    assert situation.slots.record.trial is not None
    assert situation.slots.record.trial.campaign == "spring"


def test_what_rots_before_it_is_read_back_is_fetched_again() -> None:
    situation = Situation()
    situation.give_all()
    situation.storage.write("part", 3, b"rot")
    situation.finish()
    assert ("VERIFIED", "") not in situation.said
    situation.give_all()
    situation.finish()
    assert situation.work.installed


def test_past_verified_nothing_stops_it() -> None:
    situation = Situation()
    assert situation.work.may_be_stopped
    situation.give_all()
    situation.work.step(0.0)
    assert situation.work.busy
    while situation.work.busy:
        situation.work.step(0.0)
    assert not situation.work.may_be_stopped
    situation.work.receive("0", b"late", 0.0, broadcast=False)
    situation.work.lost()
    situation.finish()
    assert situation.work.installed


def test_a_trial_that_is_under_way_fails_the_install() -> None:
    situation = Situation()
    situation.give_all()
    situation.slots.boot()
    record = situation.slots.record
    from plantroom.device import updater_record

    situation.slots.record = updater_record.tried(record, record.active, 1)
    situation.finish()
    assert situation.said[-1] == ("FAILED", "install")


def test_names_that_are_no_chunks_are_ignored() -> None:
    situation = Situation()
    situation.work.request(0.0)
    for name in ("x", "-1", "1.5"):
        situation.work.receive(name, b"", 0.0, broadcast=False)
    assert situation.work.part.done == 0
