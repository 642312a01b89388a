"""The cloud's state folder: where things lie, and who has it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from plantroom.broker.admin import SOCKET
from plantroom.certs.time_floor import FLOOR_FILE
from plantroom.wire.state_lock import held


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Every path below one cloud's state folder."""

    root: Path

    @property
    def broker_socket(self) -> Path:
        """Where `plantroom broker` asks."""
        return self.root / SOCKET

    @property
    def lock(self) -> Path:
        """Held while a cloud runs here."""
        return self.root / "cloud.lock"

    @property
    def front(self) -> Path:
        """The front broker's sessions and messages."""
        return self.root / "front.db"

    @property
    def store(self) -> Path:
        """The store, unless it is configured to be elsewhere."""
        return self.root / "store.db"

    @property
    def accepted(self) -> Path:
        """What was given to ingestion in calls."""
        return self.root / "accepted.db"

    @property
    def time_floor(self) -> Path:
        """The latest time that was known here."""
        return self.root / FLOOR_FILE

    @property
    def authority(self) -> Path:
        """The cloud's root."""
        return self.root / "authority"

    @property
    def registry(self) -> Path:
        """The cloud's registration entries."""
        return self.root / "registry.db"

    @property
    def bundles(self) -> Path:
        """The buildings' trust bundles."""
        return self.root / "bundles.json"

    @property
    def ota(self) -> Path:
        """What updates need: trust document, head key, registry, images."""
        return self.root / "ota"

    def held(self) -> AbstractContextManager[None]:
        """Have the folder alone, for as long as this process lives; see `wire.state_lock.held`."""
        return held(self.lock, "cloud")
