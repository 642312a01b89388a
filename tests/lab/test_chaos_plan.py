import pytest

from plantroom.lab.chaos_plan import PROFILES, SPARE_S, WAYS, schedule

PROCESSES = ("cloud", "gateway", "storm-001", "storm-002")


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_same_seed_is_the_same_schedule(profile: str) -> None:
    drawn = schedule(profile, seed=7, duration_s=120, processes=PROCESSES)
    assert schedule(profile, seed=7, duration_s=120, processes=PROCESSES) == drawn
    assert [fault.at_s for fault in drawn.faults] == sorted(fault.at_s for fault in drawn.faults)
    assert all(SPARE_S <= fault.at_s <= 120 for fault in drawn.faults)


def test_other_seed_is_another_storm() -> None:
    one, other = (schedule("storm", seed=s, duration_s=60, processes=PROCESSES) for s in (1, 2))
    assert one != other


def test_storm_strikes_every_second_or_two_and_everybody_in_time() -> None:
    faults = schedule("storm", seed=3, duration_s=300, processes=PROCESSES).faults
    assert 150 <= len(faults) <= 303
    assert {fault.target for fault in faults if fault.kind == "kill"} == set(PROCESSES)
    assert {fault.target for fault in faults if fault.kind == "cut"} == set(WAYS)
    assert {fault.kind for fault in faults} == {
        *("kill", "cut", "swallow", "throttle", "delay", "fill", "step")
    }
    assert sum(fault.kind == "fill" for fault in faults) == 1
    back, forward = sorted(fault.off_s for fault in faults if fault.kind == "step")
    assert back < 0 < forward < 60  # the skew that certificates bear


def test_offline_is_one_long_cut_with_a_kill_inside_it() -> None:
    cut, kill = schedule("offline", seed=5, duration_s=100, processes=PROCESSES).faults
    assert (cut.kind, cut.target, cut.lasts_s) == ("cut", "wan", 60.0)
    assert (kill.kind, kill.target) == ("kill", "gateway")
    assert cut.at_s < kill.at_s < cut.at_s + cut.lasts_s
    assert cut.text == "cut wan for 60.0 s"
    assert kill.text == "kill gateway"


def test_weather_is_that_of_the_design() -> None:
    satellite = schedule("satellite", seed=1, duration_s=9, processes=()).weather["wan"]
    assert (2 * satellite.delay_s, satellite.loss) == (0.6, 0.02)
    cellular = schedule("cellular", seed=1, duration_s=9, processes=()).weather["wan"]
    assert (2 * cellular.delay_s, 2 * cellular.jitter_s) == pytest.approx((0.1, 0.01))


def test_unknown_profile_is_an_error() -> None:
    with pytest.raises(KeyError):
        schedule("calm", seed=1, duration_s=9, processes=())
