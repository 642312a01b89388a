from typing import Any

import pytest

from plantroom.wire import given
from plantroom.wire.errors import PlantroomError
from plantroom.wire.reading import Reading

DEVICE = "spiffe://building-1.smart.local/agent/hvac-001"
NOW_US = 1_790_000_000_000_000
TABLE: dict[str, Any] = {
    "device": DEVICE,
    "time": "2026-09-21T14:13:20Z",
    "points": {"temperature": {"value": 21.5, "unit": "Cel"}, "motion": True},
}


def test_a_reading_is_read_as_read_sensors_shows_one() -> None:
    sample = given.sample_from(TABLE, device=DEVICE, now_us=NOW_US)
    assert [(point.name, point.unit, point.value) for point in sample.points] == [
        ("motion", None, True),
        ("temperature", "Cel", 21.5),
    ]
    numbered = given.sample_from(TABLE | {"epoch": 3, "seq": 4}, device=DEVICE, now_us=NOW_US)
    assert isinstance(numbered, Reading)
    assert (numbered.epoch, numbered.seq) == (3, 4)
    assert given.table_of({"reading": TABLE}) == given.table_of(TABLE) == TABLE
    assert given.device_of({"device_id": "hvac-001"}) == "hvac-001"
    assert given.device_of({}, "hvac-002") == "hvac-002"


def test_without_a_time_it_was_taken_now_and_has_no_content_name() -> None:
    table = {"points": {"a": 1}}
    sample = given.sample_from(table, device=DEVICE, now_us=NOW_US)
    assert sample.time_us == NOW_US
    assert given.content_name(table, sample) is None


def test_the_same_content_has_one_name() -> None:
    one = given.sample_from(TABLE, device=DEVICE, now_us=1)
    other = given.sample_from(
        TABLE | {"points": {"motion": True, "temperature": {"unit": "Cel", "value": 21.5}}},
        device=DEVICE,
        now_us=2,
    )
    different = given.sample_from(TABLE | {"points": {"a": 1}}, device=DEVICE, now_us=3)
    names = [given.content_name(TABLE, each) for each in (one, other, different)]
    assert names[0] == names[1] != names[2]
    assert given.key_name("a", "k") == given.key_name("a", "k") != given.key_name("b", "k")


@pytest.mark.parametrize(
    "change",
    [
        {"points": {}},
        {"points": [1]},
        {"points": {"a": None}},
        {"points": {"a": [1]}},
        {"points": {"a": {"value": 1, "unit": 3}}},
        {"points": {"a b": 1}},
        {"points": {"a": float("nan")}},
        {"time": 3},
        {"time": "yesterday"},
        {"epoch": 1},
        {"epoch": True, "seq": 1},
        {"epoch": -1, "seq": 1},
    ],
)
def test_what_is_wrong_is_a_named_error(change: dict[str, Any]) -> None:
    with pytest.raises(PlantroomError):
        given.sample_from(TABLE | change, device=DEVICE, now_us=NOW_US)


@pytest.mark.parametrize("data", [None, 3, [], {"reading": 3}])
def test_data_that_is_no_map_is_refused(data: Any) -> None:
    with pytest.raises(PlantroomError):
        given.table_of(data)
    with pytest.raises(PlantroomError):
        given.device_of({"device": 3})
