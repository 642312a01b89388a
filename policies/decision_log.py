"""Decisions on record, in the shape of OPA's decision log, in JSON lines with a bound.

Two files, the newer one and the one before, hold `bytes_max` together. What is decided from the
cache is not written again. Beyond `lines_s` lines a second (after a burst) the rest is counted and
left out: nobody fills the disk, or pushes the record out, by asking. Nothing that goes wrong here
changes a decision.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from plantroom.policies import answer
from plantroom.wire.clock import Clock
from plantroom.wire.metrics import Metric
from plantroom.wire.policy import Decision, DecisionPoint, Question
from plantroom.wire.rfc3339 import format_us

FILE_NAME = "decisions.jsonl"
PATH = "mqtt/authz/decision"
BURST_S = 30
LINE_BYTES_MAX = 16 * 1024
_LOG = logging.getLogger("plantroom.policies.decision_log")


def before(path: Path) -> Path:
    """Return the name of the file before this one."""
    return path.with_name(path.name + ".1")


def events(folder: Path) -> Iterator[dict[str, Any]]:
    """Give what is on record in a folder, oldest first; lines that are torn are left out."""
    path = folder / FILE_NAME
    for file in (before(path), path):
        if not file.exists():
            continue
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, RecursionError):
                    event = json.loads(line)
                    if isinstance(event, dict) and isinstance(event.get("input"), dict):
                        yield event


class DecisionLog:
    """Writes to `folder`; call `flush` now and then, and `close` at the end. One thread."""

    def __init__(
        self, folder: Path, *, clock: Clock, label: str, bytes_max: int, lines_s: float
    ) -> None:
        self._path, self._clock, self._label = folder / FILE_NAME, clock, label
        self._file_bytes_max = bytes_max // 2
        self._lines_s, self._lines_max = lines_s, lines_s * BURST_S
        self._lines, self._at_us = self._lines_max, clock.monotonic_us()
        self._file: IO[str] | None = None
        self._size = 0
        self.left_out = 0

    def record(self, question: Question, decision: Decision, took_us: int) -> None:
        """Write one decision down."""
        if not self._may_write():
            self.left_out += 1
            return
        event = {
            "labels": {"app": "plantroom", "id": self._label},
            "decision_id": decision.decision_id,
            "bundles": {"plantroom": {"revision": decision.revision}},
            "path": PATH,
            "input": answer.document_of(question),
            "result": {
                "allow": decision.allow,
                "reason": decision.reason,
                "rule": decision.rule,
                "ttl_s": decision.ttl_s,
                "revision": decision.revision,
            },
            "requested_by": decision.source,
            "timestamp": format_us(self._clock.wall_us()),
            "metrics": {"timer_rego_query_eval_ns": took_us * 1000},
        }
        line = json.dumps(event, separators=(",", ":"), default=str) + "\n"
        if len(line) > LINE_BYTES_MAX:
            self.left_out += 1
            return
        try:
            self._write(line)
        except OSError as error:
            self._lost(error)

    def _may_write(self) -> bool:
        now_us = self._clock.monotonic_us()
        self._lines += (now_us - self._at_us) * self._lines_s / 1_000_000
        self._lines, self._at_us = min(self._lines, self._lines_max), now_us
        if self._lines < 1:
            return False
        self._lines -= 1
        return True

    def _write(self, line: str) -> None:
        if self._file is not None and self._size + len(line) > self._file_bytes_max:
            self.close()
            self._path.replace(before(self._path))
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = self._path.open("a", encoding="ascii")  # json.dumps escapes the rest
            self._path.chmod(0o600)
            self._size = self._file.tell()
        self._file.write(line)
        self._size += len(line)

    def flush(self) -> None:
        """Hand what was written to the system."""
        try:
            if self._file is not None:
                self._file.flush()
        except OSError as error:
            self._lost(error)

    def close(self) -> None:
        """Flush and close; idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _lost(self, error: OSError) -> None:
        self.left_out += 1
        _LOG.warning("a decision cannot be written down: %s", error.strerror)
        with contextlib.suppress(OSError):
            self.close()


class RecordedPoint:
    """A decision point whose answers are counted and put on record; behind the cache."""

    def __init__(self, inner: DecisionPoint, log: DecisionLog | None, clock: Clock) -> None:
        self._inner, self._log, self._clock = inner, log, clock
        self.allowed = 0
        self.denied = 0

    @property
    def generation(self) -> int:
        """The inner point's."""
        return self._inner.generation

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after every change of `generation`."""
        self._inner.on_change(callback)

    def now(self, question: Question) -> Decision | None:
        """Answer as the inner point does."""
        began_us = self._clock.monotonic_us()
        decision = self._inner.now(question)
        return None if decision is None else self._recorded(question, decision, began_us)

    async def decide(self, question: Question) -> Decision:
        """Answer as the inner point does."""
        began_us = self._clock.monotonic_us()
        return self._recorded(question, await self._inner.decide(question), began_us)

    def _recorded(self, question: Question, decision: Decision, began_us: int) -> Decision:
        if decision.allow is True:
            self.allowed += 1
        else:
            self.denied += 1
        if self._log is not None:
            took_us = self._clock.monotonic_us() - began_us
            self._log.record(question, decision, took_us)
        return decision

    def metrics(self) -> list[Metric]:
        """Return what was decided, and how much of it is not on record."""
        name, what = "plantroom_policy_decisions_total", "Decisions that were not in the cache"
        left_out = self._log.left_out if self._log else 0
        return [
            Metric(name, "counter", what, self.allowed, {"result": "allow"}),
            Metric(name, "counter", what, self.denied, {"result": "deny"}),
            Metric(
                "plantroom_policy_log_left_out_total",
                "counter",
                "Decisions that were not written down",
                left_out,
            ),
        ]
