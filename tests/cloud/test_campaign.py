"""Reading a campaign's plan: what is wrong is named."""

import pytest

from plantroom.cloud.campaign import minutes_of, read_plan
from plantroom.wire.errors import UsageError

RELEASE = "ab" * 32


def test_a_plan_is_read_with_its_groups() -> None:
    plan = read_plan(
        {
            "name": "spring",
            "release": RELEASE,
            "selector": {"sites": ["building-1"]},
            "groups": [{"count": 1, "soak_s": 5}, {}],
            "deadlines_s": {"DOWNLOADING": 60},
        }
    )
    assert plan.selector.takes("building-1", "hvac-001")
    assert not plan.selector.takes("building-2", "hvac-001")
    assert [group.count for group in plan.groups] == [1, 0]
    assert plan.deadline_s("DOWNLOADING") == 60
    assert plan.deadline_s("UPDATING") == 1800
    assert plan.deadline_s("UPDATED") is None


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "a b"}, "name is letters"),
        ({"release": "12"}, "64 hex digits"),
        ({"groups": []}, "groups are 1 to"),
        ({"groups": [{}, {}]}, "group 1: one of percent and count"),
        ({"groups": [{"percent": 5, "count": 1}, {}]}, "group 1: one of percent and count"),
        ({"groups": [{"percent": 101}, {}]}, "0 to 100"),
        ({"groups": [{"min_executed": 0}]}, "min_executed"),
        ({"window": "25:00-01:00"}, "window is as"),
        ({"rate_per_min": -1.0}, "rate_per_min"),
        ({"retries": 11}, "retries 0 to 10"),
        ({"deadlines_s": {"UPDATED": 5}}, "UPDATED is wrong"),
        ({"kind": "maybe"}, "kind is not one of"),
        ({"when": "now"}, "when is not known"),
        ({"groups": "all"}, "groups is not a list"),
    ],
)
def test_what_is_wrong_with_a_plan_is_named(change: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        read_plan({"name": "spring", "release": RELEASE} | change)


def test_a_plan_that_is_no_table_is_refused() -> None:
    with pytest.raises(UsageError, match="not a table"):
        read_plan(["spring"])


def test_a_window_is_minutes_of_the_day() -> None:
    assert minutes_of("22:00-05:30") == (1320, 330)
    with pytest.raises(UsageError, match="window"):
        minutes_of("late")
