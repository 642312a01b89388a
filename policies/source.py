"""Where the bundle comes from: the one that ships, or a folder that is watched.

What is broken, unsigned or away changes nothing: the bundle in use goes on, `fault` says why, and
`age_s` since when. At a start the last good one, kept on disk, stands in.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from plantroom import policies
from plantroom.policies import bundle, last_good, signature
from plantroom.policies.bundle import Bundle
from plantroom.policies.last_good import LastGood
from plantroom.wire.clock import Clock
from plantroom.wire.errors import ConfigError, StorageError

_LOG = logging.getLogger("plantroom.policies.source")
T = TypeVar("T")
_Stamp = tuple[tuple[str, int, int, int], ...]


class BundleSource:
    """One folder, looked at whenever `look` is called; from any thread, one call at a time.

    `folder` None is the bundle that ships, which is not watched. `key` is the public key that
    every bundle has to be signed with, `keep` the file for the last good one.
    """

    def __init__(
        self, folder: Path | None, *, clock: Clock, key: Path | None, keep: Path | None
    ) -> None:
        self.watched = folder is not None
        self._folder = folder or policies.bundle_dir()
        self._clock, self._keep = clock, keep
        self._key = signature.load_key(key) if key else None
        self._stamp: _Stamp | None = None
        self._seen_us = 0
        self._files: Mapping[str, str] = {}
        self.origin = "folder" if self.watched else "shipped"
        self.fault = ""

    def first(self, use: Callable[[Bundle], T]) -> T:
        """Make use of the bundle to begin with: the folder's, else the last good one.

        Raises:
            ConfigError: when neither can be used.
        """
        try:
            made = use(self._read(self._look()))
        except ConfigError as error:
            kept = last_good.load(self._keep) if self._keep else None
            if kept is None:
                raise
            made = use(self._parsed(kept.files))
            self._seen_us, self._files, self.origin = kept.at_us, kept.files, "last-good"
            self.refused(error)
        else:
            self.adopted()
        return made

    def look(self) -> Bundle | None:
        """Return the folder's bundle if it has changed since the last look, and is whole.

        Raises:
            ConfigError: when it has changed and is not.
        """
        known, self._stamp = self._stamp, None  # what cannot be read is looked at again
        stamp = self._look()
        if stamp == known:
            self._stamp = known
            if not self.fault:
                self._seen_us = self._clock.wall_us()
            return None
        return self._read(stamp)

    def adopted(self) -> None:
        """Take what was read last as good: it decides now."""
        self._seen_us = self._clock.wall_us()
        self.fault, self.origin = "", "folder" if self.watched else "shipped"
        if self._keep is None or not self.watched:
            return
        try:
            last_good.save(self._keep, LastGood(files=self._files, at_us=self._seen_us))
        except StorageError as error:
            _LOG.error("%s", error)

    def refused(self, error: ConfigError) -> bool:
        """Note why the folder's bundle is not taken; say whether that is news."""
        news = str(error) != self.fault
        self.fault = str(error)
        return news

    @property
    def age_s(self) -> float:
        """How long ago the bundle that decides was last seen whole at its source."""
        if not self.watched:
            return 0.0
        return max(0.0, (self._clock.wall_us() - self._seen_us) / 1_000_000)

    def _look(self) -> _Stamp:
        try:
            return tuple(_stamp(path, self._folder) for path in bundle.files_of(self._folder))
        except OSError as error:
            raise ConfigError(
                f"policy bundle: cannot be read ({error.strerror})",
                where=error.filename or str(self._folder),
                remedy="restore the file; until then the last good bundle decides",
            ) from error

    def _read(self, stamp: _Stamp) -> Bundle:
        files = bundle.read(self._folder)
        self._stamp = stamp
        found = self._parsed(files)
        self._files = files
        return found

    def _parsed(self, files: Mapping[str, str]) -> Bundle:
        if self._key is not None:
            signature.check(files, self._key, self._folder)
        return bundle.parse(files, self._folder)


def _stamp(path: Path, folder: Path) -> tuple[str, int, int, int]:
    status = path.stat()
    name = path.relative_to(folder).as_posix()
    return name, status.st_mtime_ns, status.st_size, status.st_ino
