"""The updater's documents, kept over restarts: what was trusted stays known, also its lower bounds.

Damaged files are forgotten: the anchor that the device was set up with, and what is retained on the
broker, bring everything back; only the head's version has to be met again.
"""

from plantroom.device.updater_storage import Storage, put
from plantroom.wire import suit, trust
from plantroom.wire.cose import DOCUMENT_BYTES_MAX, Verify
from plantroom.wire.errors import RejectedError
from plantroom.wire.firmware import Release
from plantroom.wire.ota_documents import Documents
from plantroom.wire.suit_commands import Target

TRUST_FILE, HEAD_FILE, MANIFEST_FILE = "trust", "head", "manifest"
RELEASES_MAX = 2  # the one that is named, and one that may be


class Trusted:
    """Documents of one device, in its storage.

    Raises:
        RejectedError: when the anchor is no trust document that signs itself.
    """

    def __init__(self, storage: Storage, anchor: bytes, *, target: Target, verify: Verify) -> None:
        self._storage = storage
        self.documents = self._open(anchor, target, verify)
        for name in (HEAD_FILE, MANIFEST_FILE):
            data = self._read(name)
            try:
                if data:
                    self._feed(name, data)
            except RejectedError:
                continue

    def _open(self, anchor: bytes, target: Target, verify: Verify) -> Documents:
        def opened(data: bytes) -> Documents:
            return Documents(data, verify=verify, target=target, releases_max=RELEASES_MAX)

        kept = self._read(TRUST_FILE)
        try:
            if kept and trust.read(kept)[0].version >= trust.read(anchor)[0].version:
                return opened(kept)
        except RejectedError:
            return opened(anchor)
        return opened(anchor)

    def _read(self, name: str) -> bytes:
        return self._storage.read(name, 0, DOCUMENT_BYTES_MAX + 1)

    def _feed(self, name: str, data: bytes) -> bool:
        if name == HEAD_FILE:
            return self.documents.feed_head(data)
        return bool(self.documents.feed_manifest(data))

    def feed_trust(self, data: bytes) -> bool:
        """Take a trust document; keep what was adopted."""
        adopted = self.documents.feed_trust(data)
        if adopted:
            put(self._storage, TRUST_FILE, self.documents.trust_bytes)
        return adopted

    def feed_head(self, data: bytes) -> bool:
        """Take a head; keep it: an older one is not taken again, also after a restart."""
        adopted = self.documents.feed_head(data)
        if adopted:
            put(self._storage, HEAD_FILE, data)
        return adopted

    def feed_manifest(self, data: bytes) -> bool:
        """Take a manifest; say whether it is a new one."""
        known = suit.read(data).digest in self.documents.releases
        self.documents.feed_manifest(data)
        return not known

    def begun(self, release: Release) -> None:
        """Keep the manifest of what has begun: it finishes, also offline and after a restart."""
        put(self._storage, MANIFEST_FILE, self.documents.manifests[release.digest])

    def has_begun(self, release: Release) -> bool:
        """Say whether this release was begun, perhaps in an earlier life."""
        data = self._read(MANIFEST_FILE)
        try:
            return bool(data) and suit.read(data).digest == release.digest
        except RejectedError:
            return False

    def ended(self) -> None:
        """Forget what had begun."""
        self._storage.remove(MANIFEST_FILE)
