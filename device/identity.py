"""Keeps the agent's SVID fresh, on a thread of its own: asking the issuer can take a while."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from plantroom.certs import bundle, own_svid
from plantroom.wire.clock import Clock
from plantroom.wire.errors import IdentityError, PlantroomError
from plantroom.wire.identity import Identity

POLL_S = 1.0
HEARD_S = 15.0  # not all sensors of a building ask in the same second

Say = Callable[[str], None]


class SvidSource(Protocol):
    """Where SVIDs come from, seen from a thread: `certs.enrolled.EnrolledSource` is one."""

    def current(self) -> Identity:
        """Return the newest identity.

        Raises:
            IdentityError: when there is none yet.
        """
        ...

    def due(self, now_s: float) -> bool:
        """Say whether `renew` should be called now."""
        ...

    def renew(self) -> Identity:
        """Get a newer identity; blocks.

        Raises:
            PlantroomError: when that did not work.
        """
        ...


class IdentityKeeper:
    """Renews when it is due; `current` is None until there is an SVID."""

    def __init__(  # noqa: PLR0913 -- its source, and what it is told by keyword
        self,
        source: SvidSource,
        *,
        clock: Clock,
        refresh_s: float,
        say: Say,
        inform: Say,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._clock = clock
        self._refresh_us = round(refresh_s * 1_000_000)
        self._say = say
        self._inform = inform
        self._chance = chance
        self._wanted_at_us: int | None = None
        self._wake = threading.Event()
        self._stopped = False
        self._watchers: list[Callable[[], None]] = []
        self._trouble = ""
        self._renewed_at_us = clock.monotonic_us()
        self.current: Identity | None = None
        try:
            self.current = source.current()
        except IdentityError as error:
            inform(f"no identity yet: {error}")

    @property
    def trouble(self) -> str:
        """Why the last renewal failed; empty since one has worked."""
        return self._trouble

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back after every change, on the thread that made it."""
        self._watchers.append(callback)

    def heard(self, trust_domain: str, document: bytes) -> None:
        """Take a trust bundle as the gateway publishes it; from any thread.

        One that is newer than the known is asked for within seconds: the answer brings it, proven.
        """
        try:
            told = bundle.from_json(trust_domain, document)
        except IdentityError as error:
            self._say(f"identity: bundle of {trust_domain} that was published: {error}")
            return
        known = self.current.bundles.get(trust_domain) if self.current else None
        if known is not None and told.sequence > known.sequence and self._wanted_at_us is None:
            wait_us = int(HEARD_S * 1_000_000 * self._chance())
            self._wanted_at_us = self._clock.monotonic_us() + wait_us

    def run(self) -> None:
        """Renew until `stop`."""
        while not self._stopped:
            self.step()
            self._wake.wait(POLL_S)

    def stop(self) -> None:
        """Make `run` return soon; from any thread."""
        self._stopped = True
        self._wake.set()

    def step(self) -> None:
        """Renew if it is due; a failure is said once and tried again when the source says so."""
        now_us = self._clock.monotonic_us()
        wanted = self._wanted_at_us is not None and now_us >= self._wanted_at_us
        is_old = now_us - self._renewed_at_us >= self._refresh_us
        if not (wanted or is_old or self._source.due(self._clock.wall_us() / 1e6)):
            return
        self._renewed_at_us, self._wanted_at_us = now_us, None
        try:
            renewed = self._source.renew()
        except PlantroomError as error:
            if str(error) != self._trouble:
                self._say(f"identity: {error}")
            self._trouble = str(error)
            return
        changed = self.current is None or renewed.revision != self.current.revision
        self._trouble = ""
        self.current = renewed
        if changed:
            self._inform(f"identity: {renewed.svid.spiffe_id}, serial {renewed.svid.serial}")
            for callback in self._watchers:
                callback()


class PemFiles:
    """An identity from files that another tool rotates; looked at again when one has changed."""

    def __init__(self, *, chain: Path, key: Path, bundle_file: Path, trust_domain: str) -> None:
        self._paths = (chain, key, bundle_file)
        self._trust_domain = trust_domain
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._identity: Identity | None = None

    def current(self) -> Identity:
        """Return what was read last, else read it.

        Raises:
            IdentityError: when a file is missing or is not what it should be.
        """
        return self._identity or self.renew()

    def due(self, _now_s: float) -> bool:
        """Say whether a file has changed, or nothing could be read yet."""
        return self._identity is None or self._look() != self._stamp

    def renew(self) -> Identity:
        """Read the files again.

        Raises:
            IdentityError: when a file is missing or is not what it should be.
        """
        stamp = self._look()
        chain, key, roots = (self._read(path) for path in self._paths)
        svid = own_svid.read_svid(chain, key)
        if not own_svid.key_belongs(svid):
            raise IdentityError(
                "key is not that of the chain", reason="bad-key", where=str(self._paths[1])
            )
        revision = self._identity.revision + 1 if self._identity else 1
        bundles = bundle.from_file(self._trust_domain, roots)
        self._identity = Identity(svid=svid, bundles=bundles, revision=revision)
        self._stamp = stamp
        return self._identity

    def _look(self) -> tuple[tuple[int, int], ...]:
        stamps = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError:
                stamps.append((0, 0))
            else:
                stamps.append((status.st_mtime_ns, status.st_ino))
        return tuple(stamps)

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise IdentityError(
                f"cannot read it: {error.strerror}",
                reason="no-file",
                where=str(path),
                remedy="check the [identity] files and their owner",
            ) from error
