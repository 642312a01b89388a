from plantroom.gateway.answers import Sent
from plantroom.gateway.lanes import Lanes

SECOND = 1_000_000


def rows(*seqs: int) -> tuple[Sent, ...]:
    return tuple(Sent(seq, 1, "d", 7, seq) for seq in seqs)


def test_the_window_bounds_a_lane_and_a_receipt_opens_it() -> None:
    lanes = Lanes(2)
    first = lanes.launch("live", rows(1))
    lanes.launch("live", rows(2))
    assert not lanes.room("live")
    assert lanes.room("backfill")
    assert lanes.answered(first.number, 0) is first
    assert lanes.room("live")
    assert lanes.answered(first.number, 0) is None


def test_numbers_are_not_reused_across_lanes_and_halves() -> None:
    lanes = Lanes()
    flights = [lanes.launch("live", rows(1, 2, 3)), lanes.launch("backfill", rows(4))]
    lanes.answered(flights[0].number, 0)
    flights += lanes.halve(flights[0])
    assert [flight.number for flight in flights] == [0, 1, 2, 3]


def test_halves_go_first_count_as_one_and_end_with_the_culprit_alone() -> None:
    lanes = Lanes(2)
    lanes.launch("live", rows(9))
    whole = lanes.launch("live", rows(1, 2, 3, 4), ((7, ("gateway", 1, 1)),))
    lanes.answered(whole.number, 0)
    readings, notes = lanes.halve(whole)
    assert (len(readings.rows), len(notes.notes)) == (4, 1)
    assert not lanes.room("live")
    assert lanes.first("live") is readings
    lanes.answered(readings.number, 0)
    low, high = lanes.halve(readings)
    assert [lanes.first("live"), lanes.first("live"), lanes.first("live")] == [notes, low, high]
    assert {flight.family for flight in (readings, notes, low, high)} == {whole.number}
    assert not lanes.room("live")  # one window place for the family, one for the other batch
    lanes.answered(low.number, 0)
    lanes.answered(high.number, 0)
    alone, _ = lanes.halve(high)
    lanes.answered(alone.number, 0)
    assert lanes.halve(alone) == []


def test_a_batch_is_due_again_with_back_off() -> None:
    lanes = Lanes()
    flight = lanes.launch("live", rows(1))
    assert lanes.due(10 * SECOND) == []  # not sent yet
    waits = []
    now = 0
    for _ in range(8):
        lanes.sent(flight, now)
        waits.append(flight.due_us - now)
        now = flight.due_us
        assert lanes.due(now - 1) == []
        assert lanes.due(now) == [flight]
        assert lanes.next_due_us() == now
    assert waits[:3] == [2 * SECOND, 4 * SECOND, 8 * SECOND]
    assert max(waits) == 60 * SECOND


def test_no_answer_while_others_get_theirs_counts_as_unreadable() -> None:
    lanes = Lanes()
    stuck = lanes.launch("backfill", rows(1))
    for n in range(2, 8):
        lanes.sent(stuck, n)
        assert not lanes.looks_unreadable(stuck)
        other = lanes.launch("backfill", rows(n))
        lanes.sent(other, n)
        lanes.answered(other.number, n)
    assert lanes.looks_unreadable(stuck)


def test_silence_towards_everybody_is_not_unreadable() -> None:
    lanes = Lanes()
    stuck = lanes.launch("backfill", rows(1))
    for n in range(50):
        lanes.sent(stuck, n)
    assert not lanes.looks_unreadable(stuck)


def test_a_new_link_makes_everything_due_and_gives_up_what_was_never_sent() -> None:
    lanes = Lanes()
    sent, packed = lanes.launch("live", rows(1)), lanes.launch("live", rows(2))
    lanes.sent(sent, 0)
    assert lanes.reconnected(5) == [sent]
    assert lanes.due(5) == [sent]
    assert lanes.get(packed.number) is None


def test_backfill_yields_when_answers_slow_down_and_recovers() -> None:
    lanes = Lanes(16)

    def answer(count: int, took_us: int) -> None:
        for _ in range(count):
            flight = lanes.launch("backfill", rows(1))
            lanes.sent(flight, 0)
            lanes.answered(flight.number, took_us)

    def window() -> int:
        flights = []
        while lanes.room("backfill"):
            flights.append(lanes.launch("backfill", rows(1)))
        for flight in flights:
            lanes.answered(flight.number, 0)
        return len(flights)

    assert window() == 2  # of a new link nothing is known
    answer(300, 20_000)
    assert window() == 16
    answer(15, 2 * SECOND)
    narrow = window()
    assert narrow <= 4
    answer(300, 20_000)
    assert window() == 16
    lanes.reconnected(0)
    assert window() == 2
