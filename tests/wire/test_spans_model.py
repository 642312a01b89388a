import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from plantroom.gateway.queue_schema import MIGRATIONS
from plantroom.wire import spans
from plantroom.wire.ranges import RangeSet

KEY = (1, 0)
STEP = st.tuples(
    st.sampled_from(["add", "discard"]),
    st.integers(0, 30),
    st.integers(0, 10),
    st.sampled_from(["", "full", "age"]),
)


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(MIGRATIONS["queue"][0])
    connection.execute("INSERT INTO book(id, device, epoch) VALUES(1, 'd', 1)")
    return connection


@given(st.lists(STEP, max_size=25))
def test_spans_behave_as_a_map_in_which_the_first_reason_stays(
    steps: list[tuple[str, int, int, str]],
) -> None:
    connection = database()
    model: dict[int, str] = {}
    for what, first, width, reason in steps:
        members = range(first, first + width + 1)
        if what == "add":
            new = spans.add(connection, KEY, first, first + width, reason)
            assert new == RangeSet((n, n) for n in members if n not in model)
            for n in members:
                model.setdefault(n, reason)
        else:
            spans.discard(connection, KEY, first, first + width)
            for n in members:
                model.pop(n, None)
        rows = connection.execute("SELECT first, last, reason FROM span ORDER BY first").fetchall()
        assert {n: r for a, b, r in rows for n in range(a, b + 1)} == model
        assert sum(b - a + 1 for a, b, _ in rows) == len(model)
    assert spans.load(connection, KEY) == RangeSet((n, n) for n in model)
    assert spans.highest(connection, KEY) == max(model, default=-1)
    assert spans.within(connection, KEY, 5, 9) == RangeSet((n, n) for n in model if 5 <= n <= 9)


def test_neighbours_of_one_reason_are_one_row() -> None:
    connection = database()
    for first in (0, 20, 10):
        spans.add(connection, KEY, first, first + 9)
    assert connection.execute("SELECT first, last FROM span").fetchall() == [(0, 29)]
    assert spans.touching(connection, KEY, 29, 40) == [(0, 29, "")]
    assert spans.touching(connection, KEY, 30, 40) == []
