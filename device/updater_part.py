"""An image on its way: the part file, and which of its chunks are there.

Chunks are synced before the map says that they are there; after a crash the map is believed only
as far as the bytes have their digests.
"""

from plantroom.device.updater_storage import Storage, put
from plantroom.wire import cbor
from plantroom.wire.errors import StorageCorruptError
from plantroom.wire.firmware import Release

PART_FILE, MAP_FILE = "part", "part.map"
SAVE_EVERY = 64  # chunks, 1 MiB as a rule: what a kill costs at most
_MAP_BYTES_MAX = 64 * 1024


class Part:
    """The chunks of one release; `resume` takes up what an earlier life has left.

    Raises:
        StorageFullError: when there is no room for the image.
    """

    def __init__(self, storage: Storage, release: Release) -> None:
        self.release = release
        self._storage = storage
        self._have = bytearray(release.chunks.count)
        self._unsaved = 0
        self.done = 0
        self.resumed = self._resume()
        if not self.resumed:
            storage.remove(MAP_FILE)
            storage.remove(PART_FILE)
        storage.reserve(PART_FILE, release.chunks.image_bytes)

    def has(self, number: int) -> bool:
        """Say whether a chunk is there."""
        return bool(self._have[number])

    @property
    def complete(self) -> bool:
        """Say whether every chunk is there."""
        return self.done == len(self._have)

    def missing(self, count: int, besides: frozenset[int] | set[int]) -> tuple[int, ...]:
        """Return the first chunks that are not there and not among `besides`."""
        found: list[int] = []
        at = self._have.find(0)
        while at >= 0 and len(found) < count:
            if at not in besides:
                found.append(at)
            at = self._have.find(0, at + 1)
        return tuple(found)

    def put(self, number: int, data: bytes) -> bool:
        """Take a chunk; False for one that is not what the manifest says."""
        chunks = self.release.chunks
        if not 0 <= number < chunks.count or not chunks.fits(number, data):
            return False
        if not self._have[number]:
            self._storage.write(PART_FILE, number * chunks.chunk_bytes, data)
            self._have[number] = 1
            self.done += 1
            self._unsaved += 1
            if self._unsaved >= SAVE_EVERY or self.complete:
                self.save()
        return True

    def save(self) -> None:
        """Bring what is there to the disk: first the bytes, then the map."""
        self._storage.sync(PART_FILE)
        table = {"i": self.release.image_digest, "c": self.release.chunks.chunk_bytes}
        put(self._storage, MAP_FILE, cbor.dumps(table | {"h": bytes(self._have)}))
        self._unsaved = 0

    def recheck(self) -> int:
        """Look at every chunk again; return how many are not what they should be."""
        bad = 0
        for number in range(len(self._have)):
            if self._have[number] and not self._is_right(number):
                self._have[number] = 0
                self.done -= 1
                bad += 1
        return bad

    def drop(self) -> None:
        """Remove what is there."""
        self._storage.remove(MAP_FILE)
        self._storage.remove(PART_FILE)

    def _is_right(self, number: int) -> bool:
        chunks = self.release.chunks
        data = self._storage.read(PART_FILE, number * chunks.chunk_bytes, chunks.length(number))
        return chunks.fits(number, data)

    def _resume(self) -> bool:
        data = self._storage.read(MAP_FILE, 0, _MAP_BYTES_MAX + 1)
        if not data:
            return False
        try:
            table = cbor.loads(data, bytes_max=_MAP_BYTES_MAX, error=StorageCorruptError)
        except StorageCorruptError:
            return False
        release = self.release
        wanted = {"i": release.image_digest, "c": release.chunks.chunk_bytes}
        have = table.pop("h", None) if isinstance(table, dict) else None
        if table != wanted or not isinstance(have, bytes) or len(have) != len(self._have):
            return False
        self._have = bytearray(1 if one else 0 for one in have)
        self.done = sum(self._have)
        self.recheck()
        return True
