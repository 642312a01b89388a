import sqlite3
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import spans
from plantroom.wire.ranges import RangeSet

KEY = (1, 0)
pairs = st.tuples(st.integers(0, 60), st.integers(0, 15)).map(lambda pair: (pair[0], sum(pair)))


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE span(book INTEGER, kind INTEGER, first INTEGER, last INTEGER, reason TEXT,"
        " PRIMARY KEY(book, kind, first)) WITHOUT ROWID"
    )
    return connection


@given(st.lists(st.tuples(st.booleans(), pairs, st.sampled_from(["", "a", "b"])), max_size=30))
def test_table_holds_what_a_range_set_holds(steps: list[tuple[bool, tuple[int, int], str]]) -> None:
    connection, model = opened(), RangeSet()
    for adds, (first, last), reason in steps:
        if adds:
            before = model.copy()
            model.add(first, last)
            new = RangeSet([(first, last)])
            for low, high in before:
                new.discard(low, high)
            assert spans.add(connection, KEY, first, last, reason) == new
        else:
            model.discard(first, last)
            spans.discard(connection, KEY, first, last)
        rows = connection.execute("SELECT first, last FROM span ORDER BY first").fetchall()
        assert all(a[1] < b[0] for a, b in pairwise(rows)), "never overlap"
        assert spans.load(connection, KEY) == model
    assert spans.within(connection, KEY, 10, 30).count == sum(
        1 for n in range(10, 31) if n in model
    )
    connection.close()


def test_of_two_reasons_for_one_number_the_first_stays() -> None:
    connection = opened()
    spans.add(connection, KEY, 0, 5, "first")
    spans.add(connection, KEY, 3, 9, "second")
    assert spans.touching(connection, KEY, 0, 9) == [(0, 5, "first"), (6, 9, "second")]
    connection.close()


def test_books_and_kinds_do_not_mix() -> None:
    connection = opened()
    spans.add(connection, (1, 0), 0, 5)
    spans.add(connection, (1, 1), 3, 9)
    spans.add(connection, (2, 0), 7, 8)
    assert list(spans.load(connection, (1, 0))) == [(0, 5)]
    connection.close()
