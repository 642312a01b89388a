"""Refill: reads what a connected durable session is behind with, a piece at a time, and in turn."""

import asyncio
import logging
from collections.abc import Callable

from plantroom.broker.backlog import Stored
from plantroom.broker.codes import Code
from plantroom.broker.engine import Engine
from plantroom.broker.runs import Receiver, Run, locate
from plantroom.broker.segments import StoredRun
from plantroom.broker.session import Session
from plantroom.broker.sink import Entry
from plantroom.broker.tree import Match
from plantroom.broker.withdrawal import unwanted, wanted_by
from plantroom.wire.errors import StorageCorruptError, StorageError

LOGGER = logging.getLogger("plantroom.broker.refill")
_NOBODY: Match[Receiver] = Match()
PIECE_BYTES = 262_144
RETRY_S = 0.2


class Refill:
    """Serves sessions that ask for more, one after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wanted: dict[Session, None] = {}
        self._work = asyncio.Event()
        self._under_way: set[Session] = set()
        engine.on_hungry = self.want

    def want(self, session: Session) -> None:
        """Read on for this session when it is its turn."""
        if session not in self._under_way:
            self._wanted[session] = None
            self._work.set()

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self._work.wait()
            while self._wanted:
                session = next(iter(self._wanted))
                del self._wanted[session]
                if session.hungry:
                    await self._read(session)
            self._work.clear()

    async def _read(self, session: Session) -> None:
        backlog, attachment = session.backlog, session.attachment
        start, end = backlog.loaded, backlog.stored
        try:
            entries = await self._engine.sink.read(session.sid, start, end, PIECE_BYTES)
        except StorageError as error:
            await self._failed(session, error)
            return
        for entry in entries:
            if entry.damage:
                self._engine.damaged(session, entry.damage)
        if entries:
            end = entries[-1].end
        self._announce(session, attachment, entries, end)

    def _announce(self, session: Session, attachment: int, entries: list[Entry], end: int) -> None:
        """Load after the commit that says that these may have been sent [MQTT-3.3.1-1]."""
        self._under_way.add(session)
        session.announce(end)
        self._engine.journal.touch(session)
        self._engine.journal.after(self._loader(session, attachment, entries, end))

    def _loader(
        self, session: Session, attachment: int, entries: list[Entry], end: int
    ) -> Callable[[bool], None]:
        def load(ok: bool) -> None:  # noqa: ARG001, FBT001 -- the journal's callback
            self._under_way.discard(session)
            client = self._engine.clients.by_sid(session.sid)
            if client is None or session.attachment != attachment or not session.ready:
                if session.hungry:  # on another connection, which starts anew
                    self.want(session)
                return
            runs = [stored for entry in entries for stored in entry.runs]
            size_bytes = sum(len(stored.data) for stored in runs)
            found = [part for stored in runs for part in parts(stored)]
            session.load(found, end, size_bytes, self._skip(session, found))
            self._engine.flush(client)
            self._engine.pong(client)  # one piece is what it waits for, not all of a long queue

        return load

    def _skip(self, session: Session, found: list[Stored]) -> frozenset[int]:
        """Return what of this is for no subscription that the session has, if that may be."""
        if not session.backlog.doubtful:
            return frozenset()
        wanted = wanted_by(self._engine.tree, session)
        return unwanted(found, session.backlog.flown, wanted)

    async def _failed(self, session: Session, error: StorageError) -> None:
        """Try again, but give up on what is damaged: its client hears of it."""
        LOGGER.error("cannot read the queue of session %d: %s", session.sid, error)
        client = self._engine.clients.by_sid(session.sid)
        if isinstance(error, StorageCorruptError):
            if client is not None and client.connection is not None:
                client.connection.fail(Code.UNSPECIFIED_ERROR, "the queue cannot be read")
            return
        if client is not None:
            self._engine.pong(client)
        await asyncio.sleep(RETRY_S)
        self.want(session)


def parts(stored: StoredRun) -> list[Stored]:
    """Return a stored run as what the session queues."""
    run = Run(
        stored.origin,
        stored.data,
        version=stored.version,
        match=_NOBODY,
        at_us=stored.at_us,
        qos=stored.qos,
        count=stored.count,
        offsets=locate(stored.data) if stored.copyable else (),
        copyable=stored.copyable,
        tapped=stored.tapped,
        retained=stored.retained,
    )
    return [(run, entry.grant, entry.qos, entry.ordinal) for entry in stored.waiting]
