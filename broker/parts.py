"""Packets that have not come whole: their bytes, and the memory for those of all connections."""

from typing import Final

from plantroom.broker.turns import ROOM, Waiting

_SMALL_BYTES: Final = 16_384  # a packet up to this needs no room of its own


class Room:
    """Memory for packets that have not come whole: who needs more than is left waits for it."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._taken: dict[Waiting, int] = {}
        self._waiting: dict[Waiting, int] = {}  # first come, first served
        self.taken_bytes = 0

    def want(self, outlet: Waiting, size_bytes: int) -> bool:
        """Take room for a packet of this size, or say that it has to wait; 0 gives it back.

        A packet that is larger than all there is gets it when it is the only one.
        """
        self.taken_bytes -= self._taken.pop(outlet, 0)
        self._waiting.pop(outlet, None)
        if size_bytes:
            self._waiting[outlet] = size_bytes
        while self._waiting:
            first, wanted = next(iter(self._waiting.items()))
            if self._taken and self.taken_bytes + wanted > self._bytes_max:
                break
            del self._waiting[first]
            self._taken[first] = wanted
            self.taken_bytes += wanted
            if first is not outlet:
                first.resume(ROOM)
        return outlet not in self._waiting


class Parts:
    """What one connection has sent that is not handled yet."""

    __slots__ = ("_chunks", "_large", "have", "need")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._large = False  # has room of its own, or waits for it
        self.have = 0
        self.need = 0  # so many bytes are a whole packet, as far as its length is known

    def add(self, data: bytes) -> None:
        """Keep what came behind the rest."""
        self._chunks.append(data)
        self.have += len(data)

    def put_back(self, data: bytes) -> None:
        """Keep what was not handled before the rest."""
        self._chunks.insert(0, data)
        self.have += len(data)

    def take(self) -> bytes:
        """Return everything, and keep nothing."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self.have = 0
        return data

    def fit(self, outlet: Waiting, room: Room) -> bool:
        """Take room for a large packet, or give it back; say whether the rest may come now."""
        large = self.need if self.have and self.need > _SMALL_BYTES else 0
        if not large and not self._large:
            return True
        self._large = bool(large)
        return room.want(outlet, large)

    def drop(self, outlet: Waiting, room: Room) -> None:
        """Keep nothing any more."""
        self._chunks.clear()
        self.have = 0
        self.fit(outlet, room)
