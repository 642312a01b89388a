"""The SPIFFE Workload API, served over a Unix socket by the embedded issuer.

Anybody on this machine may connect, as with SPIRE's agent: who they are decides what they get. How
many connections there are, in all and of one user, is bounded; beyond that a caller is cut off.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from plantroom.certs.workload_connection import PERMISSION_DENIED, CallLimits, WorkloadConnection
from plantroom.certs.workload_offers import Offers
from plantroom.wire import unix_socket
from plantroom.wire.metrics import Metric
from plantroom.wire.unix_socket import Peer

LOG = logging.getLogger("plantroom.certs.workload")
_ANYBODY = 0o666
_USERS_MAX = 1000
NAMED_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What one socket takes on; no user but root may fill it alone.

    A connection costs two descriptors, of which a process often has no more than 1024, and the
    broker beside it needs the most.
    """

    connections_max: int = 128
    connections_per_user_max: int = 32
    call: CallLimits = field(default_factory=CallLimits)


class WorkloadServer:
    """Serves the offers at `path` while `run` runs."""

    def __init__(self, offers: Offers, path: Path, *, limits: ServerLimits | None = None) -> None:
        self._offers = offers
        self._path = path
        self._limits = limits or ServerLimits()
        self._by_user: Counter[int] = Counter()
        self._refusals: Counter[int] = Counter()
        self._cut_off = 0
        self._name_again_s: dict[int, float] = {}

    async def run(self, *, listening: Callable[[], None] = lambda: None) -> NoReturn:
        """Serve for ever.

        Raises:
            ConfigError: when the socket cannot be made safely where it is wanted.
        """
        await self._offers.look()
        bound = unix_socket.bind(self._path, mode=_ANYBODY)
        made = self._path.lstat()
        async with asyncio.TaskGroup() as tasks:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tasks.create_task(self._serve(reader, writer), name="certs.workload-connection")

            server = await asyncio.start_unix_server(accept, sock=bound)
            tasks.create_task(self._offers.run(), name="certs.workload-offers")
            LOG.info("workload API at unix:%s", self._path)
            listening()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                server.close()
                unix_socket.remove(self._path, made)
                await asyncio.sleep(0)  # a task that never began would not close its connection
        raise AssertionError("it ends by cancellation only")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; whatever it does, the others go on."""
        peer = unix_socket.peer_of(writer.get_extra_info("socket"))
        try:
            if self._takes(peer.uid):
                await self._answer(reader, writer, peer)
        except Exception:  # a fault of ours that one caller has found
            LOG.exception("connection ends pid=%d uid=%d", peer.pid, peer.uid)
        finally:
            peer.close()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer
    ) -> None:
        call = self._limits.call
        self._by_user[peer.uid] += 1
        try:
            await WorkloadConnection(
                reader, writer, peer, self._offers, limits=call, refused=self._count
            ).run()
        finally:
            self._by_user[peer.uid] -= 1

    @property
    def _connections(self) -> int:
        return self._by_user.total()

    def _takes(self, uid: int) -> bool:
        limits = self._limits
        share = limits.connections_max if uid == 0 else limits.connections_per_user_max
        if self._connections < limits.connections_max and self._by_user[uid] < share:
            return True
        if not self._cut_off:
            LOG.warning("too many connections, uid=%d is cut off", uid)
        self._cut_off += 1
        return False

    def _count(self, status: int, peer: Peer) -> None:
        """Count a refusal; who has no entry is named, but not so often that it fills a log."""
        self._refusals[status] += 1
        now_s = time.monotonic()
        if status != PERMISSION_DENIED or now_s < self._name_again_s.get(peer.uid, 0.0):
            return
        if len(self._name_again_s) > _USERS_MAX:
            self._name_again_s.clear()
        self._name_again_s[peer.uid] = now_s + NAMED_EVERY_S
        LOG.warning("no entry for pid=%d uid=%d gid=%d", peer.pid, peer.uid, peer.gid)

    def metrics(self) -> list[Metric]:
        """Return the server's figures for `/metrics`."""
        refused = "Calls ended, by gRPC status"
        return [
            Metric(
                "plantroom_workload_connections",
                "gauge",
                "Callers of the Workload API",
                self._connections,
            ),
            Metric(
                "plantroom_workload_cut_off_total",
                "counter",
                "Callers beyond a limit",
                self._cut_off,
            ),
            *(
                Metric(
                    "plantroom_workload_refused_total",
                    "counter",
                    refused,
                    count,
                    {"status": str(status)},
                )
                for status, count in sorted(self._refusals.items())
            ),
        ]
