"""Which chunks to ask for, and when to stop asking: rules without I/O but the part file's.

A window of requests in flight; an answer that does not come, and a chunk that is not the right one,
each cost one of a budget of failures, so that asking ends. While the gateway broadcasts the image,
this listens and asks only for what it has missed.
"""

from dataclasses import dataclass

from plantroom.device.updater_part import Part
from plantroom.wire.ota_messages import WANTED_MAX, ChunkStatus, Get

ANSWER_S = 5.0  # patience with the first request; doubles as long as nothing comes
ANSWER_S_MAX = 60.0
BROADCAST_GAP_S = 1.0  # so long after a broadcast chunk another is expected
LATER_S_MIN, LATER_S_MAX = 1.0, 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How many chunks may be asked for at a time, and how many failures one download may have."""

    window: int = 8
    failures_max: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """What this device is, and how patient."""

    site: str
    device: str
    class_name: str
    class_id: bytes
    patience: Patience
    retry_s: float = 3600.0


class Download:
    """One image on its way into a part file."""

    def __init__(self, part: Part, patience: Patience, now_s: float) -> None:
        self.part = part
        self.failure = ""  # `gone` or `download`: it has ended
        self.failures = 0
        self._window = min(patience.window, WANTED_MAX)
        self._failures_max = patience.failures_max
        self._asked: set[int] = set()
        self._heard_s = now_s
        self._broadcast_s = -BROADCAST_GAP_S
        self._not_before_s = now_s
        self._silences = 0
        self.waits_for_server = False

    def receive(self, number: int, data: bytes, now_s: float, *, broadcast: bool = False) -> None:
        """Take a chunk: of our own asking, or one that is sent to everybody."""
        asked = number in self._asked
        self._asked.discard(number)
        if self.part.put(number, data):
            self._heard_s = now_s
            self._silences = 0
            self.waits_for_server = False
            if broadcast:
                self._broadcast_s = now_s
        elif asked:  # what nobody asked for costs nothing: else strangers could use the budget up
            self._fail()

    def told(self, status: ChunkStatus, now_s: float) -> None:
        """Take the word of whoever serves images, why no chunk comes."""
        if status.image != self.part.release.image_digest:
            return
        self._asked.clear()
        self._heard_s = now_s
        if status.status == "gone":
            self.failure = "gone"
        else:
            wait_s = min(max(status.retry_s, LATER_S_MIN), LATER_S_MAX)
            self._not_before_s = now_s + wait_s
            self.waits_for_server = True

    def lost(self) -> None:
        """Forget what is in flight: the connection has gone, and that is nobody's failure."""
        self._asked.clear()

    def next(self, now_s: float) -> Get | None:
        """Return what to ask for now."""
        if self.failure or self.part.complete:
            return None
        self._give_up_waiting(now_s)
        quiet = now_s >= self._not_before_s and now_s - self._broadcast_s >= BROADCAST_GAP_S
        if self.failure or not quiet or len(self._asked) > self._window // 2:
            return None
        if not self._asked:
            self._heard_s = now_s
        wanted = self.part.missing(self._window - len(self._asked), self._asked)
        if not wanted:
            return None
        self._asked.update(wanted)
        release = self.part.release
        return Get(
            image=release.image_digest, chunk_bytes=release.chunks.chunk_bytes, wanted=wanted
        )

    def _give_up_waiting(self, now_s: float) -> None:
        patience_s = min(ANSWER_S * 2**self._silences, ANSWER_S_MAX)
        if self._asked and now_s - self._heard_s >= patience_s:
            self._asked.clear()
            self._silences += 1
            self._fail()

    def _fail(self) -> None:
        self.failures += 1
        if self.failures > self._failures_max:
            self.failure = "download"

    def damaged(self, count: int) -> None:
        """Count chunks that the disk has changed behind our back."""
        for _ in range(count):
            self._fail()
