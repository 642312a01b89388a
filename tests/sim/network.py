"""Connections that delay, go silent, and break; and the cloud's front broker, which may do worse.

Within a connection nothing is lost or reordered until it breaks, as with TCP. The front stands for
any broker that crashes, is replaced, or delivers again what was delivered: so it also loses,
doubles and delays what it has acknowledged.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from plantroom.wire.errors import UnreachableError
from plantroom.wire.link import Message

TIMEOUT_S = 8.0


@dataclass(slots=True)
class Weather:
    """How bad the networks are now; every number is a chance, all zero is a fine day."""

    lose: float = 0.0
    double: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    open: dict[str, bool] = field(default_factory=dict)  # by the name of a cable
    silent: set[str] = field(default_factory=set)

    def passes(self, cable: str) -> bool:
        """Say whether new connections can be made through a cable."""
        return self.open.get(cable, True) and cable not in self.silent


def settle(answer: "asyncio.Future[bool]", *, done: bool) -> None:
    """Say that an answer has come or never will, unless that is known."""
    if not answer.done():
        answer.set_result(done)


class Connection:
    """One connection through a cable, in both directions."""

    def __init__(self, cable: str, weather: Weather, chance: random.Random) -> None:
        self.cable = cable
        self._weather = weather
        self._chance = chance
        self._free_s = {"up": 0.0, "down": 0.0}
        self._stalled: list[Callable[[], None]] = []
        self.dead = False
        self.owed: dict[asyncio.Future[bool], None] = {}  # answers that its end would leave out

    def delay_s(self, way: str) -> float:
        """Return how long the next message takes; it never overtakes the one before."""
        now_s = asyncio.get_running_loop().time()
        slow = self._chance.random() < self._weather.slow
        arrives_s = max(
            now_s + 0.001 + self._chance.random() * (1.5 if slow else 0.02),
            self._free_s[way] + 1e-6,
        )
        self._free_s[way] = arrives_s
        return arrives_s - now_s

    def send(self, way: str, arrive: Callable[[], None]) -> None:
        """Let something arrive later, if the connection still stands by then."""

        def landed() -> None:
            if self.dead:
                return
            if self.cable in self._weather.silent:  # the sender's kernel sends it again
                self._stalled.append(landed)
            else:
                arrive()

        if not self.dead:
            asyncio.get_running_loop().call_later(self.delay_s(way), landed)

    def flow(self) -> None:
        """Let what stalled in a silence arrive, in its order."""
        stalled, self._stalled = self._stalled, []
        for landed in stalled:
            landed()

    def cut(self) -> None:
        """Break it; what was on its way is gone."""
        self.dead = True
        for answer in self.owed:
            settle(answer, done=False)


class Front:
    """The cloud's broker: gateways on one side, ingest on the other."""

    def __init__(self, weather: Weather, chance: random.Random) -> None:
        self.weather = weather
        self._chance = chance
        self.links: set[FrontLink] = set()
        self.session: deque[Message] = deque()  # ingest's, kept while it is away

    @asynccontextmanager
    async def connect(self, cable: str, owner: str) -> AsyncIterator["FrontLink"]:
        """Connect, or say that it cannot be reached."""
        await asyncio.sleep(0.01 + self._chance.random() * 0.1)
        if not self.weather.passes(cable):
            raise UnreachableError("the way is cut", where=cable)
        link = FrontLink(self, Connection(cable, self.weather, self._chance), owner)
        self.links.add(link)
        if link.is_ingest:
            waiting, self.session = self.session, deque()
            for message in waiting:
                self.route(message)
        try:
            yield link
        finally:
            link.cut()

    def sever(self, owner: str) -> None:
        """Lose every connection of one process."""
        for link in list(self.links):
            if link.owner == owner:
                link.cut()

    def crash(self, *, forget: bool) -> None:
        """Lose every connection; a replaced one also loses what it kept."""
        for link in list(self.links):
            link.cut()
        if forget:
            self.session.clear()

    def accept(self, message: Message) -> None:
        """Take what was published, and do with it what a bad day brings."""
        if self._chance.random() < self.weather.lose:
            return
        copies = 2 if self._chance.random() < self.weather.double else 1
        for _ in range(copies):
            if self._chance.random() < self.weather.late:
                delay_s = self._chance.random() * 12
                asyncio.get_running_loop().call_later(delay_s, self.route, message)
            else:
                self.route(message)

    def route(self, message: Message) -> None:
        """Hand a message on to the other side."""
        to_ingest = "/uplink/" in message.topic
        links = [link for link in self.links if link.is_ingest == to_ingest]
        for link in sorted(links, key=lambda link: link.number):
            link.arrive(message)
        if to_ingest and not links:
            self.session.append(message)


class FrontLink:
    """A connection to the front; implements `wire.link.Link`."""

    count = 0

    def __init__(self, front: Front, connection: Connection, owner: str) -> None:
        FrontLink.count += 1
        self.number = FrontLink.count
        self.owner = owner
        self.is_ingest = owner == "cloud"
        self.where = connection.cable
        self._front = front
        self._connection = connection
        self._incoming: asyncio.Queue[Message | None] = asyncio.Queue()

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other

    def flow(self) -> None:
        """Let what stalled in a silence arrive."""
        self._connection.flow()

    def cut(self) -> None:
        """Break the connection, as either end or anything between may do."""
        self._connection.cut()
        self._front.links.discard(self)
        self._incoming.put_nowait(None)

    def arrive(self, message: Message) -> None:
        """Send a message down to the client."""
        self._connection.send("down", lambda: self._incoming.put_nowait(message))

    async def publish(self, message: Message) -> int:
        """Publish and wait for the PUBACK, which may never come."""
        await self._answered(lambda: self._front.accept(message))
        return 0

    async def _answered(self, arrive: Callable[[], None]) -> None:
        """Let something arrive at the front, and wait until it has said so."""
        loop = asyncio.get_running_loop()
        answered = loop.create_future()

        def arrived() -> None:
            arrive()
            self._connection.send("down", lambda: settle(answered, done=True))

        self._connection.owed[answered] = None
        self._connection.send("up", arrived)
        timer = loop.call_later(TIMEOUT_S, self.cut)
        try:
            if self._connection.dead or not await answered:
                raise UnreachableError("connection lost", where=self.where)
        finally:
            timer.cancel()
            del self._connection.owed[answered]

    async def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        """Subscribe; the front knows by itself who wants what."""
        del topic_filter, qos
        await self._answered(lambda: None)

    async def messages(self) -> AsyncIterator[Message]:
        """Give what arrives until the connection is lost."""
        while (message := await self._incoming.get()) is not None:
            yield message
        raise UnreachableError("connection lost", where=self.where)
