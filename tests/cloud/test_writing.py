from pathlib import Path

from tests.fakes.deliveries import DEVICE, delivery, note, reading
from tests.fakes.store_tables import tables


def test_receipt_names_ranges_reasons_and_notes(tmp_path: Path) -> None:
    foreign = reading(0, device="spiffe://building-2.smart.local/agent/x")
    made = delivery([reading(0), reading(1), reading(7), foreign], notes=[note("gone", 4, 2, 3)])
    with tables(tmp_path) as (connection, writer):
        (receipt,) = writer.apply(connection, [made]).receipts
    assert [(span.device, span.first, span.last) for span in receipt.stored] == [
        (DEVICE, 0, 1),
        (DEVICE, 7, 7),
    ]
    assert [(span.device, span.reason) for span in receipt.quarantined] == [
        (foreign.device, "foreign-device")
    ]
    assert receipt.notes == (("sensor", 1, 4),)
    assert receipt.commit == 1


def test_two_gateways_in_one_commit_get_a_receipt_each(tmp_path: Path) -> None:
    other = "spiffe://building-2.smart.local/agent/x"
    with tables(tmp_path) as (connection, writer):
        done = writer.apply(
            connection,
            [delivery([reading(0)]), delivery([reading(0, device=other)], site="building-2")],
        )
        assert connection.execute("SELECT commits FROM store").fetchone() == (1,)
    assert [receipt.stored[0].device for receipt in done.receipts] == [DEVICE, other]


def test_writer_that_forgets_finds_everything_again(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        connection.execute("SAVEPOINT before")
        writer.apply(connection, [delivery([reading(0)])])
        connection.execute("ROLLBACK TO before")
        writer.forget()
        done = writer.apply(connection, [delivery([reading(0), reading(1)])])
        assert len(done.stored) == 2
        assert connection.execute("SELECT COUNT(*) FROM r").fetchone() == (6,)


def test_empty_delivery_is_receipted(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        (receipt,) = writer.apply(connection, [delivery()]).receipts
    assert (receipt.stored, receipt.quarantined, receipt.notes) == ((), (), ())
