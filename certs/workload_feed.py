"""An identity from a SPIFFE Workload API for the device: one socket, no thread, no asyncio.

The stream stays open; `due` looks without waiting whether the agent has spoken, `renew` reads it.
What was received stays when the agent goes away. Neither `cryptography` nor gRPC's library is
loaded.
"""

import random
import select
import socket
import time
from collections.abc import Callable, Collection
from pathlib import Path

from plantroom.certs.workload_stream import ANSWER_S_MAX, IdentityStream, patience_s, wait_s
from plantroom.wire import unix_socket
from plantroom.wire.errors import IdentityError, PlantroomError, UnreachableError
from plantroom.wire.identity import Identity, Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

_READ_BYTES_MAX = 64 * 1024


class WorkloadFeed:
    """The SVID with `spiffe_id`, of those that the agent at the socket `path` gives us.

    `owners`: users beside root and our own who may listen there. Call it from one thread.
    """

    def __init__(
        self,
        path: Path,
        spiffe_id: SpiffeId,
        *,
        owners: Collection[int] = (),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._path = path
        self._spiffe_id = spiffe_id
        self._owners = owners
        self._chance = chance
        self._link: socket.socket | None = None
        self._stream: IdentityStream | None = None
        self._identity: Identity | None = None
        self._failures = 0
        self._retry_at_s = 0.0  # monotonic: when to dial, or to dial anew

    def current(self) -> Identity:
        """Return the newest identity.

        Raises:
            IdentityError: with reason `no-svid` before the agent has given one.
        """
        if self._identity is None:
            raise IdentityError("no SVID yet", reason="no-svid", where=str(self._path))
        return self._identity

    def due(self, _now_s: float) -> bool:
        """Say whether the agent has spoken, is to be asked again, or has been silent too long."""
        return self._is_time() or (self._link is not None and _readable(self._link))

    def _is_time(self) -> bool:
        return time.monotonic() >= self._retry_at_s

    def renew(self) -> Identity:
        """Take in what the agent says; waits only for the first message of a new connection.

        Raises:
            RefusedError: when the agent has no entry for this process, or not this ID.
            UnreachableError: when there is no agent, or it has gone; `due` says when to try again.
        """
        try:
            if self._link is not None and _readable(self._link):
                self._read(self._link)
            elif self._link is None or self._is_time():
                self._open()
        except (PlantroomError, OSError) as error:
            self.close()
            self._failures += 1
            self._retry_at_s = time.monotonic() + wait_s(self._failures, chance=self._chance())
            if isinstance(error, PlantroomError):
                raise
            raise UnreachableError(f"agent has gone: {error}", where=str(self._path)) from error
        return self.current()

    def close(self) -> None:
        """Let go of the stream; idempotent."""
        link, self._link, self._stream = self._link, None, None
        if link is not None:
            link.close()

    def _open(self) -> None:
        self.close()
        until_s = time.monotonic() + ANSWER_S_MAX
        self._link = link = unix_socket.dial(
            self._path, owners=self._owners, timeout_s=ANSWER_S_MAX
        )
        self._stream = stream = IdentityStream(self._path, self._spiffe_id)
        link.sendall(stream.begin())
        while not self._read(link):
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise UnreachableError("agent is silent", where=str(self._path))
            link.settimeout(left_s)
        link.settimeout(ANSWER_S_MAX)  # for what is sent from now on; reading never waits

    def _read(self, link: socket.socket) -> bool:
        """Take in what is there; say whether an identity was among it."""
        if self._stream is None:
            raise RuntimeError("a link has its stream")
        try:
            data = link.recv(_READ_BYTES_MAX)
        except TimeoutError:
            raise UnreachableError("agent is silent", where=str(self._path)) from None
        found, replies = self._stream.receive(data)
        link.sendall(replies)
        if found is None:
            return False
        self._failures = 0
        self._retry_at_s = time.monotonic() + patience_s(found[0], time.time())
        self._take(*found)
        return True

    def _take(self, svid: Svid, bundles: dict[str, TrustBundle]) -> None:
        known = self._identity
        if known is not None and known.svid == svid and dict(known.bundles) == bundles:
            return
        revision = known.revision + 1 if known else 1
        self._identity = Identity(svid=svid, bundles=bundles, revision=revision)


def _readable(link: socket.socket) -> bool:
    poll = select.poll()
    poll.register(link, select.POLLIN)
    return bool(poll.poll(0))
