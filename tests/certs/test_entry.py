"""Registration entries as values: what cannot be issued later is refused now."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs.entry import Entry, from_row, to_row
from plantroom.wire.errors import PlantroomError
from plantroom.wire.spiffe import SpiffeId

SENSOR = SpiffeId("building-1.smart.local", "agent/hvac-001")
selector_lists = st.lists(
    st.from_regex(r"[a-z0-9_.-]{1,9}:[^\x00-\x1f\x7f]{1,20}", fullmatch=True), max_size=3
).map(tuple)


@given(st.text(max_size=20), st.text(max_size=20), selector_lists, st.integers(2, 604_800))
def test_an_entry_goes_to_its_row_and_back(
    role: str, parent: str, selectors: tuple[str, ...], ttl_s: int
) -> None:
    entry = Entry(
        spiffe_id=SENSOR,
        role=role,
        parent=parent,
        selectors=selectors,
        ttl_s=ttl_s,
        ips=("::1",),
        hint="internal",
    )
    assert from_row(to_row(entry)) == entry


@pytest.mark.parametrize(
    "broken",
    [
        {"ttl_s": 1},
        {"ttl_s": 604_801},
        {"dns": ("a b",)},
        {"dns": ("",)},
        {"dns": ("gebäude",)},
        {"dns": ("a" * 64,)},
        {"ips": ("300.1.1.1",)},
        {"ips": ("localhost",)},
        {"hint": "h" * 1025},
        {"selectors": ("unix",)},
        {"selectors": (":0",)},
        {"selectors": ("unix:",)},
        {"selectors": ("unix:uid:0\n",)},
        {"selectors": ("unix:uid:0",) * 65},
        {"spiffe_id": SpiffeId("a.b", "agent/_x")},
    ],
)
def test_what_could_not_be_issued_is_refused(broken: dict[str, object]) -> None:
    fields: dict[str, Any] = {"spiffe_id": SENSOR, "role": "sensor"}
    with pytest.raises(PlantroomError):
        Entry(**(fields | broken))
