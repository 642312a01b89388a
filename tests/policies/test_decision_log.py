import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plantroom.policies import decision_log
from plantroom.policies.decision_log import FILE_NAME, DecisionLog, RecordedPoint
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.clock import SystemClock
from plantroom.wire.policy import Decision, Question

Ask = Callable[..., Question]
DECISION = Decision(
    allow=False,
    reason="revoked",
    ttl_s=15.0,
    revision="7+ab",
    decision_id="d-1",
    source="embedded",
    rule="mqtt.authz: revoked",
)


class Still:
    """A clock that stands."""

    now_us = 1_800_000_000_000_000

    def wall_us(self) -> int:
        return self.now_us

    def monotonic_us(self) -> int:
        return self.now_us


def log_in(folder: Path, *, bytes_max: int = 1 << 20, lines_s: float = 100.0) -> DecisionLog:
    return DecisionLog(
        folder, clock=Still(), label="spiffe://a/b", bytes_max=bytes_max, lines_s=lines_s
    )


def read(folder: Path) -> list[dict[str, Any]]:
    return list(decision_log.events(folder))


def test_a_line_has_the_shape_of_opas_decision_log(tmp_path: Path, ask: Ask) -> None:
    log = log_in(tmp_path / "policy")
    log.record(ask(), DECISION, 120)
    log.close()
    (event,) = read(tmp_path / "policy")
    assert event["labels"] == {"app": "plantroom", "id": "spiffe://a/b"}
    assert event["decision_id"] == "d-1"
    assert event["bundles"] == {"plantroom": {"revision": "7+ab"}}
    assert event["path"] == "mqtt/authz/decision"
    assert event["input"]["topic"] == ask().topic
    assert event["input"].keys() == set(Question.__dataclass_fields__)
    assert (event["result"]["allow"], event["result"]["reason"]) == (False, "revoked")
    assert event["timestamp"] == "2027-01-15T08:00:00Z"
    assert event["metrics"] == {"timer_rego_query_eval_ns": 120_000}
    assert (tmp_path / "policy" / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_two_files_keep_within_the_bound_and_the_newest_stay(tmp_path: Path, ask: Ask) -> None:
    log = log_in(tmp_path, bytes_max=20_000, lines_s=1000.0)
    for number in range(200):
        log.record(ask(topic=f"v1/{number}"), DECISION, 1)
    log.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 20_000
    kept = [event["input"]["topic"] for event in read(tmp_path)]
    assert kept[-1] == "v1/199"
    assert kept == [f"v1/{number}" for number in range(200 - len(kept), 200)]
    assert len(kept) > 15


def test_a_flood_is_counted_and_left_out(tmp_path: Path, ask: Ask) -> None:
    log = log_in(tmp_path, lines_s=1.0)
    for _ in range(100):
        log.record(ask(), DECISION, 1)
    log.close()
    assert len(read(tmp_path)) == decision_log.BURST_S
    assert log.left_out == 100 - decision_log.BURST_S


def test_what_is_written_goes_on_after_a_restart(tmp_path: Path, ask: Ask) -> None:
    for _ in range(2):
        log = log_in(tmp_path)
        log.record(ask(), DECISION, 1)
        log.close()
    assert len(read(tmp_path)) == 2


def test_a_torn_line_is_left_out(tmp_path: Path, ask: Ask) -> None:
    log = log_in(tmp_path)
    log.record(ask(), DECISION, 1)
    log.close()
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b'{"decision_id": "torn\xff\n[]\n{"input": 7}\n')
    assert len(read(tmp_path)) == 1


def test_a_disk_that_takes_nothing_changes_no_decision(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "policy").write_text("a file where the folder should be")
    log = log_in(tmp_path / "policy")
    log.record(ask(), DECISION, 1)
    log.flush()
    log.close()
    assert log.left_out == 1


def test_what_is_too_long_for_a_line_is_left_out(tmp_path: Path, ask: Ask) -> None:
    log = log_in(tmp_path)
    log.record(ask(topic="x" * decision_log.LINE_BYTES_MAX), DECISION, 1)
    log.record(ask(topic="\ud800"), DECISION, 1)
    log.close()
    assert [event["input"]["topic"] for event in read(tmp_path)] == ["\ud800"]


def test_every_answer_is_recorded_whichever_way_it_was_asked(
    tmp_path: Path, point: EmbeddedPoint, ask: Ask
) -> None:
    log = log_in(tmp_path)
    recorded = RecordedPoint(point, log, SystemClock())
    allowed = recorded.now(ask())
    denied = asyncio.run(recorded.decide(ask(topic="v1/x")))
    log.close()
    assert allowed is not None
    ids = [allowed.decision_id, denied.decision_id]
    assert [event["decision_id"] for event in read(tmp_path)] == ids
    assert (recorded.allowed, recorded.denied) == (1, 1)
    assert recorded.generation == point.generation
    text = json.dumps([metric.name for metric in recorded.metrics()])
    assert "plantroom_policy_decisions_total" in text
