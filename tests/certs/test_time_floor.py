"""Identity where the clock cannot be trusted."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import atomic, enrolment_client, time_floor
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.enrolled import (
    KEY_FILE,
    SVID_FILE,
    TOKEN_FILE,
    EnrolledSource,
    write_bundles,
    write_token,
)
from plantroom.certs.enrolment_client import Answer
from plantroom.certs.registry import Registry
from plantroom.certs.time_floor import TimeFloor
from plantroom.wire.errors import IdentityError, RefusedError
from plantroom.wire.spiffe import SpiffeId

Open = Callable[..., AbstractContextManager[Any]]
NOW_S = 1_800_000_000
AHEAD_S = 26 * 3600


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


# A clock that was ahead ---------------------------------------------------------------------------


@pytest.fixture
def joined_ahead(
    building: Authority, registry: Registry, folder: Path, sensor_id: SpiffeId, clock: Any
) -> Path:
    """A folder with an SVID that was given while all clocks were ahead; they are right again."""
    registry.create(sensor_id)
    clock.offset_s = AHEAD_S
    svid = issue_svid(building, sensor_id, ttl_s=3600)
    clock.offset_s = 0
    atomic.write(folder / SVID_FILE, svid.chain_pem)
    atomic.write(folder / KEY_FILE, svid.key_pem)
    return folder


def test_who_has_an_svid_from_the_future_is_healed_by_its_issuer(
    enrolment: Open, joined_ahead: Path, sensor_id: SpiffeId, clock: Any, tmp_path: Path
) -> None:
    path = tmp_path / "time-floor"
    path.write_text(f"{clock.wall_us() // 1_000_000 + AHEAD_S}\n")
    floor = TimeFloor(clock, path)
    with enrolment() as port:
        source = EnrolledSource(joined_ahead, spiffe_id=sensor_id, server=port.address, clock=floor)
        assert floor.behind_s > AHEAD_S - 120
        assert source.due(clock.wall_us() / 1e6)
        identity = source.renew()
        assert identity.svid.not_before_s <= clock.wall_us() / 1e6
        assert floor.behind_s == 0
        assert not source.due(clock.wall_us() / 1e6)
        assert port.server.granted_late == 0
    assert int(path.read_text()) <= clock.wall_us() // 1_000_000


def test_one_that_ran_while_the_clock_was_set_back_is_healed_as_well(
    enrolment: Open, registry: Registry, folder: Path, sensor_id: SpiffeId, clock: Any
) -> None:
    registry.create(sensor_id)
    write_token(folder, registry.token_create(sensor_id))
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address, clock=clock)
        source.renew()
        clock.offset_s = AHEAD_S
        port.source.renew()
        source.renew()
        clock.offset_s = 0
        port.source.renew()
        assert source.due(clock.wall_us() / 1e6)
        assert source.renew().svid.not_before_s <= clock.wall_us() / 1e6
        assert not source.due(clock.wall_us() / 1e6)


def test_a_server_that_had_expired_cannot_set_the_time_without_its_issuer(  # noqa: PLR0913, PLR0917
    enrolment: Open,
    joined_ahead: Path,
    sensor_id: SpiffeId,
    clock: Any,
    building: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stranger = Authority.open(joined_ahead / "stranger", building.trust_domain, clock=clock)
    old = issue_svid(building, sensor_id, ttl_s=3600)  # seen once, for another key
    with enrolment() as port:
        source = EnrolledSource(joined_ahead, spiffe_id=sensor_id, server=port.address, clock=clock)
        known_s = source.floor.wall_us() / 1e6
        asked = enrolment_client.renew
        for chain, reason in (
            (issue_svid(stranger, sensor_id, ttl_s=3600).chain_pem, "untrusted"),
            (old.chain_pem, "bad-key"),
        ):

            def answer(*given: Any, chain: bytes = chain, **named: Any) -> Answer:
                asked(*given, **named)  # the handshake, with its check of times
                return Answer(chain_pem=chain, bundles={})

            monkeypatch.setattr(enrolment_client, "renew", answer)
            with pytest.raises(IdentityError) as caught:
                source.renew()
            assert caught.value.reason == reason
    assert source.floor.wall_us() / 1e6 >= known_s


def test_a_join_token_is_not_given_to_a_server_that_had_expired(
    enrolment: Open, registry: Registry, joined_ahead: Path, sensor_id: SpiffeId, clock: Any
) -> None:
    write_token(joined_ahead, registry.token_create(sensor_id))
    still = Machine(wall_s=clock.wall_us() / 1e6)  # however slow this machine is
    with enrolment(late_s_max=0) as port:  # which turns early ones down as well
        source = EnrolledSource(joined_ahead, spiffe_id=sensor_id, server=port.address, clock=still)
        with pytest.raises(RefusedError) as caught:
            source.renew()
        assert caught.value.reason == "not-yet-valid"
        assert 0 < source.wait_s(still.wall_s) <= 60
        assert not source.due(still.wall_s)
    assert (joined_ahead / TOKEN_FILE).exists()
