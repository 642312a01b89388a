from pathlib import Path

import pytest

from plantroom.certs.workload_feed import WorkloadFeed
from plantroom.device import catalog
from plantroom.device.identity import PemFiles
from plantroom.device.settings import (
    AgentSettings,
    DeviceSettings,
    IdentitySettings,
    ReplaySettings,
    SamplingSettings,
)
from plantroom.wire.errors import ConfigError, IdentityError
from tests.device.stand_ins import FakeClock

CSV = '"date","Temperature","Humidity","Light","CO2","HumidityRatio","Occupancy"\n'


@pytest.mark.parametrize("name", sorted(catalog.DRIVERS))
def test_every_driver_gives_samples_with_positions_it_can_go_on_from(
    tmp_path: Path, name: str
) -> None:
    csv = tmp_path / "office.csv"
    csv.write_text(CSV + "".join(f'"2015-02-04 17:5{n}:00",1,2,3,4,5,{n}\n' for n in range(4)))
    settings = DeviceSettings(
        sampling=SamplingSettings(driver=name), replay=ReplaySettings(file=str(csv))
    )
    clock = FakeClock()
    driver = catalog.driver(settings, clock, print)
    driver.resume(None)
    assert driver.due_in_us() == 0
    (one,) = driver.take(1)
    assert one.sample is not None
    assert one.sample.points
    assert one.position is not None
    clock.pass_s(60)
    (two,) = driver.take(1)
    again = catalog.driver(settings, clock, print)
    again.resume(one.position)
    (other,) = again.take(1)
    assert two.sample is not None
    assert other.sample is not None
    assert other.sample.time_us == two.sample.time_us
    assert [p.name for p in other.sample.points] == [p.name for p in two.sample.points]
    assert all(isinstance(value, str) for value in again.info().values())
    fresh = again.fresh()
    assert fresh.sample is not None


def settings(
    folder: Path,
    identity: IdentitySettings = IdentitySettings(),  # noqa: B008 -- frozen
) -> DeviceSettings:
    return DeviceSettings(agent=AgentSettings(state=str(folder)), identity=identity)


def test_enrolled_identity_lives_in_the_state_folder(tmp_path: Path) -> None:
    source = catalog.identity_source(settings(tmp_path), FakeClock())
    assert (tmp_path / "identity").is_dir()
    assert source.due(0)
    with pytest.raises(IdentityError, match="not enrolled"):
        source.current()


def test_files_have_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"identity\.chain_file"):
        catalog.identity_source(settings(tmp_path, IdentitySettings(provider="files")), FakeClock())
    named = IdentitySettings(provider="files", chain_file="c", key_file="k", bundle_file="b")
    source = catalog.identity_source(settings(tmp_path, named), FakeClock())
    assert isinstance(source, PemFiles)


def test_the_workload_api_is_named_by_a_setting_or_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(address: str = "", owner: str = "") -> object:
        identity = IdentitySettings(
            provider="workload-api", workload_api=address, workload_owner=owner
        )
        return catalog.identity_source(settings(tmp_path, identity), FakeClock())

    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    assert isinstance(source("unix:/run/spire/agent.sock", "root"), WorkloadFeed)
    with pytest.raises(ConfigError, match="not unix:/absolute/path"):
        source()
    with pytest.raises(ConfigError, match="no such user"):
        source("unix:/run/spire/agent.sock", "nobody-of-that-name")
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", "unix:///run/spire/agent.sock")
    assert isinstance(source(), WorkloadFeed)
