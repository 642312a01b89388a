"""Which chunks of an image to ask the cloud for: rules without clock or network.

A window of requests; what does not come is asked for again, less and less often, for as long as the
image is wanted: a building waits for its cloud and gives nothing up.
"""

from typing import Final

from plantroom.wire.image_store import HeldImage
from plantroom.wire.ota_messages import ChunkStatus, Get

WINDOW: Final = 8
ANSWER_S: Final = 5.0
ANSWER_S_MAX: Final = 60.0
GONE_S: Final = 300.0  # after a final no, in case a person mends it


class ImageFetch:
    """One image on its way from the cloud into the cache."""

    def __init__(self, held: HeldImage, now_s: float) -> None:
        self.held = held
        self.answer = ""  # the cloud's last word when it was no chunk
        self._asked: set[int] = set()
        self._heard_s = now_s
        self._not_before_s = now_s
        self._silences = 0

    def receive(self, number: int, data: bytes, now_s: float) -> bool:
        """Take a chunk; False for one that is not what was signed."""
        self._asked.discard(number)
        if not self.held.put(number, data):
            return False
        self._heard_s, self._silences, self.answer = now_s, 0, ""
        return True

    def told(self, status: ChunkStatus, now_s: float) -> None:
        """Take the cloud's word why no chunk comes."""
        if status.image == self.held.release.image_digest:
            self._asked.clear()
            self.answer = status.status
            wait_s = GONE_S if status.status == "gone" else max(1.0, min(status.retry_s, GONE_S))
            self._not_before_s = now_s + wait_s

    def lost(self) -> None:
        """Forget what is in flight: the connection has gone."""
        self._asked.clear()
        self._silences = 0

    def next(self, now_s: float) -> Get | None:
        """Return what to ask for now."""
        patience_s = min(ANSWER_S * 2**self._silences, ANSWER_S_MAX)
        if self._asked and now_s - self._heard_s >= patience_s:
            self._asked.clear()
            self._silences = min(self._silences + 1, 10)
        if now_s < self._not_before_s or len(self._asked) > WINDOW // 2:
            return None
        wanted = self.held.missing(WINDOW - len(self._asked), self._asked)
        if not wanted:
            return None
        if not self._asked:
            self._heard_s = now_s
        self._asked.update(wanted)
        release = self.held.release
        return Get(
            image=release.image_digest, chunk_bytes=release.chunks.chunk_bytes, wanted=wanted
        )
