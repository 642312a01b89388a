"""How sensors get an image: chunk by chunk to each, or once to all when many want it.

A broadcast goes through the image once; whoever misses a chunk of it asks for that one. Rules only:
what to publish comes back, and whoever calls says what time it is.
"""

from collections.abc import Iterator
from typing import Final

from plantroom.wire import topics
from plantroom.wire.image_store import HeldImage
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import Get

CHUNK_PATTERN: Final = "ota/{device}/chunk/{n}"
BROADCAST_PATTERN: Final = "fw/{digest}/{n}"
RECENT_S: Final = 5.0  # who asked within this time wants the image
AGAIN_S: Final = 30.0  # between two broadcasts of one image: repairs go to each alone
LATER_S: Final = 2.0
AHEAD_S: Final = 0.02  # what is due until the next look goes now


class ImageServing:
    """One image being served in a building.

    `broadcast_from` devices that want it make a broadcast, of at most `bytes_per_s`.
    """

    def __init__(
        self, held: HeldImage, *, site: str, broadcast_from: int, bytes_per_s: float
    ) -> None:
        self.held = held
        self.asked_s = 0.0
        self._site = site
        self._broadcast_from = broadcast_from
        self._bytes_per_s = bytes_per_s
        self._askers: dict[str, float] = {}
        self._at: int | None = None  # the next chunk of a broadcast
        self._ended_s = -AGAIN_S
        self._due_s = 0.0

    def answer(self, device: str, wanted: Get, now_s: float) -> Iterator[Message]:
        """Answer a device's request, as far as a broadcast does not."""
        self.asked_s = now_s
        self._askers[device] = now_s
        self._begin(now_s)
        if self._at is not None:
            passed = tuple(number for number in wanted.wanted if number < self._at)
            if not passed:
                return
            wanted = Get(image=wanted.image, chunk_bytes=wanted.chunk_bytes, wanted=passed)
        for name, payload in self.held.answer(wanted, later_s=LATER_S):
            topic = topics.build(CHUNK_PATTERN, self._site, device, name)
            yield Message(topic=topic, payload=payload)

    def due(self, now_s: float) -> Iterator[Message]:
        """Give the chunks of a broadcast that are due."""
        while self._at is not None and self._due_s <= now_s + AHEAD_S:
            data = self.held.get(self._at)
            if data is None:  # it was damaged on the disk: it is fetched again, and asked for
                self._end(now_s)
                return
            self._due_s = max(self._due_s, now_s - 1.0) + len(data) / self._bytes_per_s
            name = self.held.release.image
            topic = topics.build(BROADCAST_PATTERN, self._site, name, str(self._at))
            yield Message(topic=topic, payload=data, qos=0)
            self._at += 1
            if self._at == self.held.release.chunks.count:
                self._end(now_s)

    @property
    def broadcasting(self) -> bool:
        """Whether a broadcast is under way."""
        return self._at is not None

    def _begin(self, now_s: float) -> None:
        if self._at is not None or now_s - self._ended_s < AGAIN_S or not self.held.complete:
            return
        self._askers = {
            name: at_s for name, at_s in self._askers.items() if now_s - at_s < RECENT_S
        }
        if len(self._askers) >= self._broadcast_from:
            self._at, self._due_s = 0, now_s

    def _end(self, now_s: float) -> None:
        self._at, self._ended_s = None, now_s
        self._askers.clear()
