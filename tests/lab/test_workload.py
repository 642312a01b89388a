"""What a building needs of SPIRE's agents, against our own servers in their place."""

import dataclasses
import pwd
from pathlib import Path

import pytest

from plantroom.lab import configuration, flags, fleet, issuers, setup, workload
from plantroom.lab.building import (
    FRONT_ID,
    GATEWAY_ID,
    INGESTION_ID,
    INSPECTOR_ID,
    OPERATOR_ID,
    OTA_ID,
    UPLINK_ID,
)
from plantroom.lab.flags import WORKLOAD_API, Flags
from plantroom.lab.layout import Layout
from plantroom.lab.workload import Missing, Sockets
from plantroom.wire.errors import ConfigError, IdentityError, UsageError
from plantroom.wire.spiffe import SpiffeId
from tests.fakes import workload_agents
from tests.fakes.workload_issuer import Issuer
from tests.lab.conftest import DEVICES, admit

BELOW = (GATEWAY_ID, *(one.spiffe_id for one in DEVICES))
ABOVE = (FRONT_ID, INGESTION_ID, UPLINK_ID)
PEOPLE = (INSPECTOR_ID, OPERATOR_ID)


def test_what_is_missing_is_named_with_the_socket_that_does_not_give_it(
    agents: tuple[Issuer, Issuer], tmp_path: Path
) -> None:
    below, above = agents
    sockets = Sockets(below.path, above.path)
    admit(below, *BELOW[:-1])
    admit(above, FRONT_ID)
    first, second = workload.missing(sockets, DEVICES)
    assert first == Missing(path=below.path, spiffe_ids=(BELOW[-1],))
    assert second.spiffe_ids == (INGESTION_ID, UPLINK_ID, OTA_ID, *PEOPLE)
    for part in (str(below.path), str(BELOW[-1]), "no SVID with this ID"):
        assert part in str(first)
    admit(below, BELOW[-1])
    admit(above, *ABOVE)
    (rest,) = workload.missing(sockets, DEVICES)
    assert rest.spiffe_ids == (OTA_ID, *PEOPLE)
    assert workload.can_start_without([rest])
    assert not workload.can_start_without([first])
    admit(above, OTA_ID, *PEOPLE)
    assert workload.missing(sockets, DEVICES) == ()
    gone = workload.missing(Sockets(tmp_path / "none.sock", above.path), DEVICES)
    assert "no socket: No such file" in str(gone[0])
    assert gone[0].spiffe_ids == BELOW
    link = tmp_path / "link.sock"
    link.symlink_to(below.path)
    with pytest.raises(IdentityError, match=f"it is a link, not a socket, {link}"):
        workload.missing(Sockets(link, above.path), DEVICES)


def test_a_long_list_of_missing_ids_is_cut_short() -> None:
    many = tuple(SpiffeId("a.b", f"agent/{number}") for number in range(8))
    assert str(Missing(path=Path("/s"), spiffe_ids=many)).endswith("agent/4 and 3 more")


def test_both_sockets_have_to_be_given() -> None:
    assert workload.sockets_of(Flags()) is None
    with pytest.raises(UsageError, match="needs --building-socket"):
        workload.sockets_of(Flags(identity=WORKLOAD_API))
    with pytest.raises(UsageError, match="needs --cloud-socket"):
        workload.sockets_of(Flags(identity=WORKLOAD_API, building_socket="/b"))
    given = Flags(identity=WORKLOAD_API, building_socket="/b", cloud_socket="/c")
    assert workload.sockets_of(given) == Sockets(Path("/b"), Path("/c"))


def test_the_owner_of_the_sockets_is_told_to_every_process(layout: Layout) -> None:
    given = Flags(
        devices=2,
        identity=WORKLOAD_API,
        building_socket="/b",
        cloud_socket="/c",
        socket_owner="nobody",
    )
    sockets = workload.sockets_of(given)
    assert sockets is not None
    assert sockets.owners == (pwd.getpwnam("nobody").pw_uid,)
    setup.prepare(layout, given, DEVICES)
    flags.save(layout.building, given)
    for kind, path in (
        ("gateway", layout.config("gateway")),
        ("cloud", layout.config("cloud")),
        ("device", layout.device_config(DEVICES[0].name)),
    ):
        configuration.check(kind, path, {})
        assert 'workload_owner = "nobody"' in path.read_text()
    assert issuers.responsible(layout, workload_agents.BUILDING).owners == sockets.owners
    with pytest.raises(ConfigError, match="no such user"):
        workload.sockets_of(dataclasses.replace(given, socket_owner="no-such-user"))


def test_a_socket_is_a_path_or_an_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert workload.path_of("unix:/a/b") == workload.path_of("unix:///a/b") == "/a/b"
    assert workload.path_of("b.sock") == str(tmp_path / "b.sock")
    for wrong in ("unix:b.sock", "tcp://127.0.0.1:8081"):
        with pytest.raises(ConfigError):
            workload.path_of(wrong)


def test_a_set_up_makes_entries_and_configurations_and_no_issuer(layout: Layout) -> None:
    given = Flags(devices=2, identity=WORKLOAD_API, building_socket="/b", cloud_socket="/c")
    assert setup.prepare(layout, given, DEVICES) == {one.name for one in DEVICES}
    for kind in ("gateway", "cloud"):
        configuration.check(kind, layout.config(kind), {})
        assert f'provider = "{WORKLOAD_API}"' in layout.config(kind).read_text()
        assert not (layout.config(kind).parent / "authority").exists()
    device = DEVICES[0]
    configuration.check("device", layout.device_config(device.name), {})
    assert 'workload_api = "unix:/b"' in layout.device_config(device.name).read_text()
    assert not layout.device_identity(device.name).exists()
    with issuers.building(layout).registry() as registry:
        assert {entry.spiffe_id for entry in registry.list()} == {*BELOW, *PEOPLE}
        registry.deny(device.spiffe_id, reason="operator")
        registry.delete(DEVICES[1].spiffe_id)
    assert setup.prepare(layout, given, DEVICES) == frozenset()
    embedded = Flags(devices=2)
    setup.prepare(layout, embedded, DEVICES)
    assert WORKLOAD_API not in layout.config("gateway").read_text()


def test_what_an_agent_gives_is_shown(agents: tuple[Issuer, Issuer]) -> None:
    below, _ = agents
    admit(below, *BELOW)
    assert [one.spiffe_id for one in workload.given(below.path, None)] == sorted(BELOW)
    assert [one.spiffe_id for one in workload.given(below.path, GATEWAY_ID)] == [GATEWAY_ID]
    with pytest.raises(IdentityError, match=f"{FRONT_ID} at {below.path}"):
        workload.given(below.path, FRONT_ID)


def test_where_spire_is_the_issuer_its_bundle_is_shown_and_no_root_is_made(
    agents: tuple[Issuer, Issuer], layout: Layout
) -> None:
    below, above = agents
    wanted = Flags(
        devices=2,
        identity=WORKLOAD_API,
        building_socket=str(below.path),
        cloud_socket=str(above.path),
    )
    setup.prepare(layout, wanted, DEVICES)
    flags.save(layout.building, wanted)
    issuer = issuers.responsible(layout, workload_agents.BUILDING)
    with pytest.raises(UsageError, match="SPIRE is the issuer"):
        issuer.authority()
    with pytest.raises(UsageError, match="SPIRE is the issuer"):
        issuer.rotation()
    with pytest.raises(IdentityError, match=f"no bundle to this user, {below.path}"):
        issuer.bundle()
    admit(below, GATEWAY_ID)
    assert issuer.bundle().roots_der == below.authority.bundle().roots_der
    assert not (layout.gateway / "authority").exists()


def test_with_spire_the_clouds_word_is_written_down_in_the_building_as_well(
    layout: Layout,
) -> None:
    given = Flags(devices=2, identity=WORKLOAD_API, building_socket="/b", cloud_socket="/c")
    setup.prepare(layout, given, DEVICES)
    flags.save(layout.building, given)
    fleet.revoke(layout, OPERATOR_ID, reason="left", serial=None, issuer=None)
    for issuer in (issuers.building(layout), issuers.cloud(layout)):
        with issuer.registry() as registry:
            assert str(OPERATOR_ID) in registry.denials().spiffe_ids
    assert fleet.restore(layout, OPERATOR_ID, serial=None, issuer=None) == (True, ())
    for issuer in (issuers.building(layout), issuers.cloud(layout)):
        with issuer.registry() as registry:
            assert not registry.denials().spiffe_ids
