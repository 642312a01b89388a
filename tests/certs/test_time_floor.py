"""Identity where the clock cannot be trusted."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import time_floor
from plantroom.certs.authority import Authority
from plantroom.certs.enrolled import EnrolledSource, write_bundles, write_token
from plantroom.certs.registry import Registry
from plantroom.certs.time_floor import TimeFloor
from plantroom.wire.errors import IdentityError
from plantroom.wire.spiffe import SpiffeId

Open = Callable[..., AbstractContextManager[Any]]
NOW_S = 1_800_000_000


class Machine:
    """Clocks that a test sets."""

    def __init__(self, wall_s: float) -> None:
        self.wall_s, self.running_s = wall_s, 5.0

    def wall_us(self) -> int:
        return round(self.wall_s * 1e6)

    def monotonic_us(self) -> int:
        return round(self.running_s * 1e6)


@pytest.fixture
def folder(tmp_path: Path, building: Authority) -> Path:
    place = tmp_path / "identity"
    write_bundles(place, {building.trust_domain: building.bundle()})
    return place


def test_time_goes_on_from_what_is_known_until_the_clock_is_set() -> None:
    machine = Machine(wall_s=0)
    floor = TimeFloor(machine)
    assert (floor.wall_us(), floor.behind_s) == (0, 0)
    floor.learn(NOW_S)
    machine.running_s += 60
    assert floor.wall_us() == (NOW_S + 60) * 1_000_000
    assert floor.behind_s == NOW_S + 60
    machine.wall_s = NOW_S + 5000
    assert (floor.wall_us(), floor.behind_s) == (machine.wall_us(), 0)
    floor.learn(NOW_S)  # older than what is known: nothing
    assert floor.wall_us() == machine.wall_us()


def test_an_issuers_floor_outlives_a_restart_with_an_empty_clock(tmp_path: Path) -> None:
    path, machine = tmp_path / "time-floor", Machine(wall_s=NOW_S)
    floor = TimeFloor(machine, path)
    floor.keep()
    machine.wall_s += time_floor.PERSIST_S - 1
    floor.keep()  # not worth a write yet
    assert path.read_text() == f"{NOW_S}\n"
    machine.wall_s += 1
    floor.keep()
    empty = Machine(wall_s=0)
    again = TimeFloor(empty, path)
    assert again.wall_us() == (NOW_S + time_floor.PERSIST_S) * 1_000_000
    empty.running_s += 30
    assert again.wall_us() == (NOW_S + time_floor.PERSIST_S + 30) * 1_000_000


def test_a_clock_that_was_ahead_for_a_while_is_forgotten_once_the_time_has_come(
    tmp_path: Path,
) -> None:
    path, machine = tmp_path / "time-floor", Machine(wall_s=NOW_S + 3600)
    TimeFloor(machine, path).keep()
    machine.wall_s = NOW_S  # set right, and started again
    floor = TimeFloor(machine, path)
    for passed_s in (0, 1800, 3599):
        machine.wall_s, machine.running_s = NOW_S + passed_s, 5.0 + passed_s
        assert floor.wall_us() == (NOW_S + 3600) * 1_000_000  # it stands, and does not run ahead
    machine.wall_s = NOW_S + 3601
    assert (floor.wall_us(), floor.behind_s) == (machine.wall_us(), 0)


@pytest.mark.parametrize("text", ["", "soon", "-1", "9" * 20])
def test_a_damaged_floor_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "time-floor"
    path.write_text(text)
    floor = TimeFloor(Machine(wall_s=NOW_S), path)
    assert floor.wall_us() == NOW_S * 1_000_000


@pytest.mark.parametrize("off_s", [-50 * 365 * 86_400, -86_400, 0])
def test_a_device_whose_clock_is_behind_enrols_and_renews(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    registry: Registry,
    folder: Path,
    sensor_id: SpiffeId,
    clock: Any,
    off_s: float,
) -> None:
    registry.create(sensor_id)
    write_token(folder, registry.token_create(sensor_id))
    slow = type(clock)()
    slow.offset_s = off_s
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address, clock=slow)
        assert source.due(slow.wall_us() / 1e6)
        first = source.renew()
        assert not source.due(slow.wall_us() / 1e6)
        rebooted = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address, clock=slow)
        assert rebooted.due(slow.wall_us() / 1e6) == (off_s < 0)  # it may have expired: ask
        assert rebooted.renew().svid.serial != first.svid.serial
        assert not rebooted.due(slow.wall_us() / 1e6)


def test_a_server_that_has_expired_by_what_is_known_is_refused_whatever_the_clock_says(
    enrolment: Open, registry: Registry, folder: Path, sensor_id: SpiffeId, clock: Any
) -> None:
    registry.create(sensor_id)
    write_token(folder, registry.token_create(sensor_id))
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address, clock=clock)
        clock.offset_s = -50 * 365 * 86_400
        source.floor.learn(port.source.current().svid.not_after_s + 1)
        with pytest.raises(IdentityError) as caught:
            source.renew()
    assert caught.value.reason == "expired"
