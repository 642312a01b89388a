"""What the building itself sees: the board fed from the queue, presence, and short history."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Protocol

from plantroom.gateway import stored
from plantroom.gateway.books import Heads
from plantroom.gateway.ingress import Intake, Row, device_id
from plantroom.gateway.queue_schema import RECEIVED
from plantroom.gateway.spool import Queue
from plantroom.gateway.twins import Twins
from plantroom.views.board import Board
from plantroom.views.history import HistoryQuery, Sampled, Series, thin
from plantroom.wire import envelope, topics
from plantroom.wire.clock import Clock
from plantroom.wire.database import Database
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import EnvelopeError
from plantroom.wire.link import Message
from plantroom.wire.topics import GATEWAY

_log = logging.getLogger("plantroom.gateway.local_views")
_HISTORY_ROWS_MAX = 20_000
_BIRTHS_MAX = 10_000

ROLLED_BACK, TWINS = "rolled-back", "cloned-device"


class Alarms(Protocol):
    """Who cries out (`gateway.asking.Asking`)."""

    def alarm(self, rule: str, device: str, text: str, *, cause: str = "") -> None:
        """Raise an alarm."""
        ...

    def over(self, rule: str, device: str, cause: str, text: str) -> None:
        """Say that a cause of an alarm is gone."""
        ...


class LocalViews:
    """Keeps the building's board, also while the cloud is away."""

    def __init__(  # noqa: PLR0913 -- its collaborators, each named
        self,
        board: Board,
        queue: Queue,
        *,
        site: str,
        trust_domain: str,
        clock: Clock,
        alarms: Alarms,
    ) -> None:
        self._board = board
        self._queue = queue
        self._site = site
        self._trust_domain = trust_domain
        self._clock = clock
        self._births: asyncio.Queue[tuple[str, Presence]] = asyncio.Queue(_BIRTHS_MAX)
        self._alarms = alarms
        self._twins = Twins()
        self.rolled_back = 0

    @property
    def presence_filter(self) -> str:
        """The filter of every device's presence."""
        return topics.subscription("presence/{device}", self._site)

    async def restore(self, database: Database) -> None:
        """Show what was latest before this start."""
        for body in await database.read(_latest):
            self._board.put(stored.reading_from(body))

    def derived(self, intakes: list[Intake]) -> None:
        """Show the newest reading that each device brought."""
        newest: dict[str, Row] = {}
        for intake in intakes:
            if intake.rows:
                row = max(intake.rows, key=lambda one: (one.epoch, one.seq))
                known = newest.get(intake.device)
                if known is None or (known.epoch, known.seq) < (row.epoch, row.seq):
                    newest[intake.device] = row
        now_us = self._clock.wall_us()
        for row in newest.values():
            self._board.put(stored.reading_from(row.body), seen_us=now_us)

    def present(self, message: Message, publisher: str) -> None:
        """Take a birth or a will of a device."""
        name = topics.parse(message.topic).names[0]
        try:
            presence: Presence = envelope.decode(message.payload, Presence)
        except EnvelopeError as error:
            _log.warning("presence is refused, %s by %s: %s", message.topic, publisher, error)
            return
        if not self._board.presence(self._site, name, presence) or name == GATEWAY:
            return
        try:
            self._births.put_nowait((name, presence))
        except asyncio.QueueFull:
            _log.warning("too many births at once, heads of %s wait for its next one", name)

    async def run(self) -> None:
        """Book what devices say they have numbered up to."""
        while True:
            name, birth = await self._births.get()
            sane = {epoch: head for epoch, head in birth.heads.items() if epoch >= 0 and head >= 0}
            device = device_id(self._trust_domain, name)
            if birth.online:
                self._born(device, birth.epoch)
            found = await self._queue.note_heads(device, sane, current=birth.epoch)
            for epoch, state in found.items():
                self._rolled_back(device, epoch, state)

    def _born(self, device: str, epoch: int) -> None:
        verdict = self._twins.born(device, epoch, self._clock.monotonic_us())
        if verdict == "twins":
            text = f"two agents have this identity: epoch {epoch} is there again"
            self._alarms.alarm(TWINS, device, text)
        elif verdict == "alone":
            self._alarms.over(TWINS, device, "", "only one agent is heard")

    def _rolled_back(self, device: str, epoch: int, state: Heads) -> None:
        if state == "ahead":
            return  # asked for with the next hello
        if state == "over":
            self._alarms.over(ROLLED_BACK, device, str(epoch), "every reading is accounted for")
            return
        self.rolled_back += state == "new"
        text = f"it reports less of epoch {epoch} than is known of it: restored or cloned"
        self._alarms.alarm(ROLLED_BACK, device, text, cause=str(epoch))

    async def history(self, query: HistoryQuery) -> Series | None:
        """Return a point's values over time, from what is queued and what is still kept."""
        if query.site not in {None, self._site}:
            return None
        device = device_id(self._trust_domain, query.device)
        bodies = await self._queue.recent(device, _HISTORY_ROWS_MAX)
        rows, unit = await asyncio.to_thread(_series, bodies, query)
        if not rows:
            return None
        samples, count = thin(rows, query.points_max)
        return Series(
            site=self._site,
            device=query.device,
            point=query.point,
            unit=unit,
            samples=samples,
            rows=count,
        )


async def be_present(
    site: str,
    presence: Callable[[bool], Presence],
    publish: Callable[[Message], Awaitable[object]],
) -> None:
    """Say in the building that the gateway is there, until it is not."""
    topic = topics.build("presence/{device}", site, GATEWAY)

    async def say(*, online: bool) -> None:
        payload = envelope.encode(presence(online))
        await publish(Message(topic=topic, payload=payload, retain=True))

    await say(online=True)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await say(online=False)


def _series(bodies: list[bytes], query: HistoryQuery) -> tuple[list[Sampled], str | None]:
    rows: list[Sampled] = []
    unit = None
    for body in bodies:
        _, _, _, time_us, _, points = stored.fields(body)
        if time_us is None or not (query.from_us or 0) <= time_us < (query.to_us or 1 << 62):
            continue
        for name, its_unit, value in points:
            if name == query.point:
                rows.append((time_us, value))
                unit = its_unit
    rows.sort(key=lambda row: row[0])
    return rows, unit


def _latest(sql: sqlite3.Connection) -> list[bytes]:
    """Return the newest reading of each device, of its newest epoch that has one here."""
    found = []
    seen = set()
    for book, device in sql.execute(
        "SELECT b.id, b.device FROM book b JOIN span s ON s.book = b.id AND s.kind = ?"
        " GROUP BY b.id ORDER BY b.epoch DESC",
        (RECEIVED,),
    ).fetchall():
        row = None
        if device not in seen:
            row = sql.execute(
                "SELECT body FROM reading WHERE book = ? ORDER BY seq DESC LIMIT 1", (book,)
            ).fetchone()
        if row is not None:
            seen.add(device)
            found.append(row[0])
    return found
