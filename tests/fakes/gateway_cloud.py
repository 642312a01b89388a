"""The cloud as a gateway's bridge sees it: front broker and ingest in memory, with faults."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from plantroom.wire import envelope
from plantroom.wire.envelope import Batch, Book, Hello, Note, Receipt, Span, Welcome
from plantroom.wire.errors import UnreachableError
from plantroom.wire.link import Message
from plantroom.wire.ranges import RangeSet
from tests.fakes.gateway_rig import SITE, device


class SimCloud:
    """The cloud's front broker and ingest in memory: idempotent, with receipts after the commit.

    `chance(name)` decides about faults: `lose-up`, `lose-down`, `dup-up`, `dup-down`, `reorder`.
    """

    def __init__(self, chance: Callable[[str], bool] = lambda _: False) -> None:
        self.chance = chance
        self.store_id = "store-1"
        self.commits = 0
        self.stored: dict[tuple[str, int, int], bytes] = {}
        self.quarantined: dict[tuple[str, int, int], str] = {}
        self.noted: dict[tuple[str, str, int, int], Note] = {}
        self.heads: dict[tuple[str, int], int] = {}
        self.bad: set[int] = set()
        self.poison: set[int] = set()
        self.silent = False
        self.batches: list[Batch] = []
        self.hellos: list[Hello] = []
        self.published: list[Message] = []
        self.links: list[SimLink] = []
        self.online = True
        self.duplicates = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["SimLink"]:
        if not self.online:
            raise UnreachableError("the WAN is cut")
        link = SimLink(self)
        self.links.append(link)
        try:
            yield link
        finally:
            link.cut()

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def receive(self, link: "SimLink", message: Message) -> None:
        self.published.append(message)
        if "/uplink/" not in message.topic or self.silent or self.chance("lose-up"):
            return
        for _ in range(2 if self.chance("dup-up") else 1):
            answer = self._answer(message)
            if answer is not None:
                self.send(link, f"v1/{SITE}/receipt/gateway", answer)

    def send(self, link: "SimLink", topic: str, answer: Any) -> None:
        if self.chance("lose-down"):
            return
        message = Message(topic=topic, payload=envelope.encode(answer))
        for _ in range(2 if self.chance("dup-down") else 1):
            link.arrive(message, late=self.chance("reorder"))

    def _answer(self, message: Message) -> Any:
        said = envelope.decode(message.payload, Batch, Hello)
        if isinstance(said, Hello):
            self.hellos.append(said)
            return self._welcome(said)
        self.batches.append(said)
        if any(one.seq in self.poison for one in said.readings):
            return Receipt(
                incarnation=said.incarnation,
                number=said.number,
                store_id=self.store_id,
                commit=self.commits,
                unreadable=True,
            )
        return self._ingest(said)

    def _ingest(self, batch: Batch) -> Receipt:
        self.commits += 1
        stored, refused = [], []
        for one in batch.readings:
            key = (one.device, one.epoch, one.seq)
            span = Span(device=one.device, epoch=one.epoch, first=one.seq, last=one.seq)
            if one.seq in self.bad:
                self.quarantined[key] = "bad"
                refused.append(
                    Span(device=key[0], epoch=key[1], first=key[2], last=key[2], reason="bad")
                )
                continue
            if key in self.stored:
                self.duplicates += 1
                assert self.stored[key] == one.hash()
            self.stored[key] = one.hash()
            stored.append(span)
        for note in batch.notes:
            self.noted[note.device, note.author, note.life, note.number] = note
        for name, heads in batch.heads.items():
            for epoch, head in heads.items():
                self.heads[name, epoch] = max(head, self.heads.get((name, epoch), -1))
        return Receipt(
            incarnation=batch.incarnation,
            number=batch.number,
            store_id=self.store_id,
            commit=self.commits,
            stored=tuple(stored),
            quarantined=tuple(refused),
            notes=tuple((note.author, note.life, note.number) for note in batch.notes),
        )

    def _welcome(self, hello: Hello) -> Welcome:
        books = []
        for book in hello.books:
            known = RangeSet()
            for name, epoch, seq in self.stored:
                if (name, epoch) == (book.device, book.epoch):
                    known.add(seq)
            books.append(
                Book(
                    device=book.device,
                    epoch=book.epoch,
                    highest=book.highest,
                    ranges=tuple(known),
                    digests=self._digests(book),
                )
            )
        return Welcome(
            incarnation=hello.incarnation,
            number=hello.number,
            store_id=self.store_id,
            commit=self.commits,
            books=tuple(books),
        )

    def _digests(self, book: Book) -> dict[int, bytes]:
        sums: dict[int, int] = {}
        for (name, epoch, seq), digest in self.stored.items():
            if (name, epoch) == (book.device, book.epoch):
                sums[seq // 1000] = sums.get(seq // 1000, 0) + int.from_bytes(digest)
        return {segment: (total % (1 << 256)).to_bytes(32) for segment, total in sums.items()}

    def seqs(self, name: str = "hvac-001") -> list[int]:
        return sorted(seq for who, _, seq in self.stored if who == device(name))


class SimLink:
    """A link to the simulated cloud."""

    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud
        self._incoming: asyncio.Queue[Message | None] = asyncio.Queue()
        self._held: list[Message] = []
        self._dead = asyncio.Event()
        self.filters: list[str] = []

    def cut(self) -> None:
        self._dead.set()
        self._incoming.put_nowait(None)

    def arrive(self, message: Message, *, late: bool = False) -> None:
        if late:
            self._held.append(message)
            return
        self._incoming.put_nowait(message)
        for one in self._held:
            self._incoming.put_nowait(one)
        self._held.clear()

    async def publish(self, message: Message) -> int:
        await asyncio.sleep(0)
        if self._dead.is_set():
            raise UnreachableError("cut")
        self._cloud.receive(self, message)
        return 0

    async def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        del qos
        self.filters.append(topic_filter)

    async def messages(self) -> AsyncIterator[Message]:
        while (message := await self._incoming.get()) is not None:
            yield message
        raise UnreachableError("cut")
