from plantroom.device.updater_slots import Slots
from plantroom.device.updater_trial import Trial
from tests.fakes import ota_author
from tests.fakes.ota_device import SimStorage, Voice


class Situation:
    def __init__(self, *, verdict: bool | None) -> None:
        from plantroom.device.updater_record import Image

        storage = SimStorage()
        self.slots = Slots(storage, version="1.0.0", sequence=0, boots=2, where="x")
        storage.write("part", 0, b"image")
        image = Image(slot="a", sequence=1, digest=ota_author.digest(b"image"), image_bytes=5)
        self.slots.install(image, "part")
        self.slots.boot()
        self.voice = Voice(verdict=verdict, text="exit code 1")
        self.restarts: list[str] = []
        self.trial = Trial(self.slots, self.voice, deadline_s=10.0, restart=self.restarts.append)


def test_health_and_contact_make_it_stay() -> None:
    situation = Situation(verdict=True)
    assert not situation.trial.work(0.0)
    situation.trial.contact = True
    assert situation.trial.work(1.0)
    assert situation.slots.record.active.sequence == 1
    assert not situation.trial.work(2.0)
    assert situation.restarts == []


def test_a_failed_test_goes_back_at_once_and_for_good() -> None:
    situation = Situation(verdict=False)
    situation.trial.contact = True
    assert not situation.trial.work(0.0)
    assert situation.slots.record.trial is None
    assert situation.slots.record.known_bad
    assert len(situation.restarts) == 1


def test_silence_restarts_and_leaves_the_count_to_the_boots() -> None:
    for verdict, text in ((True, "reached no gateway"), (None, "did not end")):
        situation = Situation(verdict=verdict)
        assert not situation.trial.work(9.9)
        assert not situation.trial.work(10.0)
        assert not situation.trial.work(11.0)
        assert len(situation.restarts) == 1
        assert text in situation.restarts[0]
        assert situation.slots.record.trial is not None
