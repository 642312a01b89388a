import contextlib

from plantroom.certs.entry import Issued
from plantroom.certs.registry import Registry
from plantroom.certs.svid_alarms import SvidAlarms
from plantroom.wire.spiffe import SpiffeId

GONE = SpiffeId("building-1.smart.local", "agent/gone-001")


def issue(registry: Registry, spiffe_id: SpiffeId) -> None:
    registry.record_issued(Issued(spiffe_id=spiffe_id, serial="AB", at_us=0, not_after_s=900))


def test_past_two_thirds_of_its_life_an_svid_is_overdue(
    registry: Registry, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id)
    issue(registry, sensor_id)
    issue(registry, GONE)  # its entry was deleted
    with contextlib.closing(SvidAlarms(registry.path)) as alarms:
        assert alarms.overdue(600) == ()
        (one,) = alarms.overdue(600.1)
        assert (one.spiffe_id, one.not_after_s) == (sensor_id, 900)
        registry.deny(sensor_id, reason="stolen")
        assert alarms.overdue(10_000) == ()  # it is not to be renewed


def test_what_was_raised_outlives_a_restart(registry: Registry, sensor_id: SpiffeId) -> None:
    with contextlib.closing(SvidAlarms(registry.path)) as alarms:
        for raised in (True, True):
            alarms.note("svid-overdue", sensor_id, raised=raised)
    with contextlib.closing(SvidAlarms(registry.path)) as again:
        assert again.raised() == {("svid-overdue", sensor_id)}
        again.note("svid-overdue", sensor_id, raised=False)
        again.note("svid-overdue", sensor_id, raised=False)
        assert again.raised() == frozenset()
