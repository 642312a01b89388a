from hypothesis import given
from hypothesis import strategies as st

from plantroom.lab.audit import Account, Page, compare
from plantroom.wire.ranges import RangeSet

DEVICE = "spiffe://building-1.smart.local/agent/hvac-001"


def page(highest: int, **parts: object) -> Page:
    return Page(device=DEVICE, epoch=7, highest=highest, **parts)  # type: ignore[arg-type]


def one(gateway: Page | None, cloud: Page | None) -> Account:
    (account,) = compare([gateway] if gateway else [], [cloud] if cloud else [])
    return account


def spans(*pairs: tuple[int, int]) -> RangeSet:
    return RangeSet(pairs)


def test_what_is_stored_closes_and_is_stored() -> None:
    account = one(
        page(9, held=spans((0, 9)), settled=spans((0, 9)), digests={0: "aa"}),
        page(9, held=spans((0, 9)), settled=spans((0, 9)), digests={0: "aa"}),
    )
    assert account.closes
    assert account.is_stored
    assert not account.queued


def test_what_the_gateway_still_holds_is_queued_and_closes() -> None:
    account = one(
        page(9, held=spans((0, 9)), settled=spans((0, 4))),
        page(4, held=spans((0, 4)), settled=spans((0, 4))),
    )
    assert account.closes
    assert not account.is_stored
    assert list(account.queued) == [(5, 9)]


def test_what_was_received_and_is_lost_since_is_not_queued() -> None:
    stored = spans((0, 3), (8, 9))  # by a store that was restored: the gateway no longer had 4 to 7
    account = one(
        page(9, held=spans((0, 9)), settled=stored, lost=spans((4, 7))),
        page(9, held=stored, lost=spans((4, 7))),
    )
    assert not account.queued
    assert [(fault.first, fault.last, fault.what) for fault in account.faults] == [(4, 7, "lost")]


def test_a_number_that_nobody_has_keeps_the_book_open() -> None:
    account = one(
        page(9, held=spans((0, 3), (6, 9)), settled=spans((0, 3))),
        page(3, held=spans((0, 3))),
    )
    assert [(fault.first, fault.last) for fault in account.faults] == [(4, 5)]


def test_what_a_sensor_has_numbered_and_not_sent_is_with_it() -> None:
    account = one(page(9, held=spans((0, 3))), page(9, held=spans((0, 1))))
    assert account.closes
    assert not account.is_stored
    assert (list(account.queued), list(account.at_sensor)) == ([(2, 3)], [(4, 9)])


def test_what_was_not_sent_before_something_newer_is_nowhere() -> None:
    newer = Page(device=DEVICE, epoch=8, highest=0, held=spans((0, 0)))
    accounts = compare([page(9, held=spans((0, 3)))], [newer])
    assert [list(account.at_sensor) for account in accounts] == [[], []]
    assert [(fault.first, fault.last) for fault in accounts[0].faults] == [(4, 9)]


def test_a_receipt_for_what_the_store_does_not_have_keeps_the_book_open() -> None:
    account = one(
        page(9, held=spans((0, 9)), settled=spans((0, 9))),
        page(9, held=spans((0, 4))),
    )
    assert [(fault.first, fault.last) for fault in account.faults] == [(5, 9)]
    assert "neither queued nor stored" in account.faults[0].what


def test_what_was_evicted_or_quarantined_with_a_reason_closes_but_is_not_stored() -> None:
    account = one(
        page(9, held=spans((2, 9)), settled=spans((2, 9)), excused=spans((0, 1))),
        page(9, held=spans((2, 9)), excused=spans((0, 1))),
    )
    assert account.closes
    assert not account.is_stored


def test_a_loss_on_record_is_a_fault_by_its_own_name() -> None:
    account = one(page(1, held=spans((1, 1))), page(1, held=spans((1, 1)), lost=spans((0, 0))))
    assert [(fault.first, fault.what) for fault in account.faults] == [(0, "lost")]


def test_digests_are_compared_only_where_both_hold_the_same_numbers() -> None:
    below = page(1999, held=spans((0, 1999)), settled=spans((0, 1999)), digests={0: "a", 1: "b"})
    altered = one(below, page(1999, held=spans((0, 1999)), digests={0: "x", 1: "b"}))
    assert [(fault.first, fault.last) for fault in altered.faults] == [(0, 999)]
    queued = page(1999, held=spans((0, 1999)), settled=spans((0, 500)), digests={0: "a", 1: "b"})
    assert one(queued, page(500, held=spans((0, 500)), digests={0: "x"})).closes


def test_a_disputed_epoch_does_not_close() -> None:
    assert not one(page(0, held=spans((0, 0)), disputed=True), None).closes


def test_a_book_that_only_the_cloud_has_is_compared_with_itself() -> None:
    assert one(None, page(4, held=spans((0, 4)))).is_stored
    assert not one(None, page(4, held=spans((0, 2), (4, 4)))).closes


sets = st.sets(st.integers(0, 30))


@given(held=sets, settled=sets, excused=sets, stored=sets, quarantined=sets, lost=sets)
def test_every_number_is_accounted_for_or_a_fault(  # noqa: PLR0913 -- the six sets of two pages
    *,
    held: set[int],
    settled: set[int],
    excused: set[int],
    stored: set[int],
    quarantined: set[int],
    lost: set[int],
) -> None:
    def ranges(members: set[int]) -> RangeSet:
        return RangeSet((member, member) for member in members)

    account = one(
        page(30, held=ranges(held), settled=ranges(settled & held), excused=ranges(excused)),
        page(30, held=ranges(stored), excused=ranges(quarantined), lost=ranges(lost)),
    )
    faulty = {seq for fault in account.faults for seq in range(fault.first, fault.last + 1)}
    fine = stored | quarantined | excused | (held - settled)
    seen = fine | held | lost
    at_sensor = set(range(max(seen, default=-1) + 1, 31))
    assert {seq for a, b in account.at_sensor for seq in range(a, b + 1)} == at_sensor
    assert faulty == set(range(31)) - fine - at_sensor
