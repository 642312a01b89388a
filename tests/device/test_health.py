from pathlib import Path
from types import SimpleNamespace
from typing import Any

from plantroom.device.dispatch import Dispatch, Rules
from plantroom.device.health import Health, Parts
from plantroom.wire.metrics import render
from tests.device.stand_ins import middle, open_outbox, taken
from tests.fakes.issuer import BUILDING, Issuer


def parts(path: Path, **changes: Any) -> Parts:
    outbox = open_outbox(path / "o.db", None, readings_max=3)
    dispatch = Dispatch(outbox, Rules(), uniform=middle)
    uplink: Any = SimpleNamespace(connected=True, connects_total=2)
    identity: Any = SimpleNamespace(current=Issuer(BUILDING).identity("agent/hvac-001"), trouble="")
    sampler: Any = SimpleNamespace(taken_total=5, info=lambda: {"rows": "5", "replay": "running"})
    made = {"outbox": outbox, "dispatch": dispatch, "uplink": uplink}
    return Parts(**(made | {"identity": identity, "sampler": sampler} | changes))


def test_figures_say_what_waits_what_went_and_what_was_evicted(tmp_path: Path) -> None:
    one = parts(tmp_path)
    one.outbox.append(taken(*range(5)))
    one.dispatch.begin(window=9, bytes_max=10**6)
    parcel = one.dispatch.next(1.0)  # the tombstone
    assert parcel is not None
    one.dispatch.aloft(1, parcel, 1.0)
    one.dispatch.answered(1, 0, 1.0)
    one.dispatch.refused_total[0x97] = 3
    text = render(Health(one).metrics())
    for line in (
        'plantroom_device_outbox_readings{state="unsent"} 3',
        'plantroom_device_outbox_readings{state="sent"} 0',
        'plantroom_device_evicted_readings_total{reason="full"} 2',
        'plantroom_device_evicted_readings_total{reason="age"} 0',
        "plantroom_device_outbox_tombstones 0",
        "plantroom_device_link_up 1",
        "plantroom_device_connects_total 2",
        'plantroom_device_refused_publishes_total{code="0x97"} 3',
        "plantroom_device_readings_total 5",
        "plantroom_device_driver_rows 5",
        "plantroom_device_svid_renewal_failing 0",
    ):
        assert line in text.splitlines()
    assert "plantroom_device_last_puback_age_seconds " in text
    assert "plantroom_device_svid_expiry_timestamp_seconds " in text
    one.outbox.close()


def test_health_names_what_is_wrong(tmp_path: Path) -> None:
    good = parts(tmp_path)
    assert Health(good).troubles() == []
    assert Health(good, now_s=lambda: 1e12).troubles() == ["the SVID has expired"]
    bad = Parts(
        outbox=good.outbox,
        dispatch=good.dispatch,
        sampler=good.sampler,
        uplink=SimpleNamespace(connected=False, connects_total=0),  # type: ignore[arg-type]
        identity=SimpleNamespace(current=None, trouble="no token"),  # type: ignore[arg-type]
    )
    assert Health(bad).troubles() == ["no identity yet", "not connected"]
    render(Health(bad).metrics())
    good.outbox.close()
