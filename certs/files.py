"""An identity from PEM files that another tool writes and rotates, such as spiffe-helper.

Chain, key and bundles are read again when one of them has changed; what cannot be used (half
written, key and certificate of different rounds) is left alone until the next look.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from plantroom.certs import atomic, bundle, svid
from plantroom.certs.holder import IdentityHolder
from plantroom.wire.errors import IdentityError, PlantroomError, StorageError
from plantroom.wire.identity import Svid, TrustBundle

LOG = logging.getLogger("plantroom.certs.files")
FILE_BYTES_MAX = 1024 * 1024
Stamp = tuple[tuple[int, int, int], ...]


class FileSource(IdentityHolder):
    """Reads `chain`, `key` and a bundle file per trust domain (PEM or a SPIFFE bundle, by content).

    Raises:
        PlantroomError: when the files cannot be used at the start.
    """

    def __init__(
        self, *, chain: Path, key: Path, bundles: Mapping[str, Path], poll_s: float = 5.0
    ) -> None:
        super().__init__()
        self._chain, self._key, self._bundles = chain, key, dict(bundles)
        self._poll_s = poll_s
        self.last_error: Exception | None = None
        self._stamp = self._look()
        self.publish(*self._load())

    async def run(self) -> None:
        """Look at the files for ever, and publish what is new and whole."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()

    async def refresh(self) -> bool:
        """Look once; True if something new was published."""
        try:
            stamp = await asyncio.to_thread(self._look)
            if stamp == self._stamp:
                return False
            loaded = await asyncio.to_thread(self._load)
        except PlantroomError as error:
            if str(error) != str(self.last_error):
                LOG.warning("files cannot be used yet, the old identity stays: %s", error)
            self.last_error = error
            return False
        self._stamp, self.last_error = stamp, None
        self.publish(*loaded)
        return True

    def _look(self) -> Stamp:
        return tuple(map(_stamp, (self._chain, self._key, *self._bundles.values())))

    def _load(self) -> tuple[Svid, dict[str, TrustBundle]]:
        svid_now = svid.parse_svid(_read(self._chain), _read(self._key))
        bundles = {name: _bundle(name, path) for name, path in self._bundles.items()}
        return svid_now, bundles


def _stamp(path: Path) -> tuple[int, int, int]:
    with atomic.translated(path):
        status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> bytes:
    data = atomic.read(path, bytes_max=FILE_BYTES_MAX)
    if data is None:
        raise StorageError(
            "file is missing", where=str(path), remedy="start the tool that writes it"
        )
    return data


def _bundle(trust_domain: str, path: Path) -> TrustBundle:
    bundles = bundle.from_file(trust_domain, _read(path))
    if trust_domain not in bundles:
        raise IdentityError(
            f"no bundle of {trust_domain} in the file", reason="no-bundle", where=str(path)
        )
    return bundles[trust_domain]
