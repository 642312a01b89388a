"""Ingest: takes what gateways send, commits it together, and answers only then.

A batch that cannot be read, or that alone cannot be committed, is answered `unreadable`: the
gateway halves it until the culprit is alone. Without an answer a gateway sends again, so nothing
here has to be kept when the store is in trouble.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from plantroom.cloud import welcoming
from plantroom.cloud.store import Belongs, Committed, Delivery, Store, StoredBook
from plantroom.cloud.unpacking import Place, Unpacked, Unreadable, unpack
from plantroom.wire import alarm, envelope, topics
from plantroom.wire.alarms import UNKNOWN, Standing
from plantroom.wire.clock import Clock
from plantroom.wire.damage import FILE_DAMAGED
from plantroom.wire.envelope import Batch, Envelope, Hello, Receipt
from plantroom.wire.errors import StorageError
from plantroom.wire.link import Message
from plantroom.wire.metrics import Metric
from plantroom.wire.reading import Reading

LOG = logging.getLogger("plantroom.cloud.ingest")
INCARNATIONS_KEPT = 1000
QUIET_US = 300_000_000  # so long only one of two gateways has to speak
RESTORED, TWINS = "store-restored", "interleaved-gateway"
_STORE: Place = (topics.CLOUD_SITE, "store")  # whose alarm it is that the store was damaged


class Ingest:
    """Turns messages into stored readings and answers; `shown` hears of what was new."""

    def __init__(
        self,
        store: Store,
        *,
        belongs: Belongs,
        clock: Clock,
        shown: Callable[[Sequence[Reading], int], None],
        holes_max: int = 5000,
    ) -> None:
        self._store = store
        self._belongs = belongs
        self._clock = clock
        self._shown = shown
        self._holes_max = holes_max
        self._commit = 0
        self._lives: dict[Place, list[int]] = {}
        self._interleaved_us: dict[Place, int] = {}
        self.standing = Standing()
        self.counts: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self.last_commit_us: int | None = None

    async def take(self, messages: Sequence[Message]) -> list[Message]:
        """Commit what the messages bring, and return the answers to publish.

        Raises:
            StorageError: nothing was stored, nothing may be answered; the gateways send again.
        """
        received_us = self._clock.wall_us()
        found = await asyncio.to_thread(unpack, messages, received_us=received_us)
        for why in found.refused:
            LOG.warning("refused %s", why)
        self.counts["refused"] += len(found.refused)
        answers = [
            *await self._deliver(found),
            *[answer for each in found.unreadable for answer in self._unreadable(each)],
        ]
        for place, hello in found.hellos:
            answers += await self._greet(place, hello, received_us)
        return answers

    async def _deliver(self, found: Unpacked) -> list[Message]:
        if not found.deliveries:
            return []
        cries: list[Message] = []
        for delivery in found.deliveries:
            place = (delivery.site, delivery.gateway)
            cries += self._watch_lives(place, delivery.batch.incarnation)
        return [*await self._commit_all(found), *cries]

    async def _commit_all(self, found: Unpacked) -> list[Message]:
        try:
            committed = await self._store.commit(found.deliveries)
        except StorageError:
            self.counts["failed"] += 1
            raise
        except Exception:  # one poisonous batch must not stop the others: each gets its own commit
            LOG.exception("a group of %d batches cannot be committed", len(found.deliveries))
            return await self._one_by_one(found)
        return self._receipts(found.deliveries, committed)

    async def _one_by_one(self, found: Unpacked) -> list[Message]:
        answers = []
        for delivery in found.deliveries:
            try:
                committed = await self._store.commit([delivery])
            except StorageError:
                raise
            except Exception as error:  # noqa: BLE001 -- as above; it is answered and counted
                place, batch = (delivery.site, delivery.gateway), delivery.batch
                found.unreadable.append(
                    Unreadable(place, batch.incarnation, batch.number, repr(error))
                )
            else:
                answers += self._receipts([delivery], committed)
        return answers

    async def give(self, deliveries: Sequence[Delivery]) -> Committed:
        """Commit what came in a call instead of a batch, and count and show it like the others.

        Raises:
            StorageError: nothing was stored.
        """
        committed = await self._store.commit(deliveries)
        self._count(deliveries, committed)
        return committed

    def _receipts(self, deliveries: Sequence[Delivery], committed: Committed) -> list[Message]:
        self._count(deliveries, committed)
        return [
            _answer((delivery.site, delivery.gateway), "receipt/{gateway}", receipt)
            for delivery, receipt in zip(deliveries, committed.receipts, strict=True)
        ]

    def _count(self, deliveries: Sequence[Delivery], committed: Committed) -> None:
        self.last_commit_us = self._clock.wall_us()
        self.counts["commits"] += 1
        self.counts["batches"] += len(deliveries)
        self.counts["stored"] += len(committed.stored)
        self.counts["duplicates"] += committed.duplicates
        self.counts["late"] += committed.late
        self.counts["after_retention"] += committed.after_retention
        self.quarantined.update(committed.quarantined)
        self._commit = max(self._commit, *(receipt.commit for receipt in committed.receipts))
        self._shown(committed.stored, deliveries[0].received_us)

    def _unreadable(self, each: Unreadable) -> list[Message]:
        LOG.error("unreadable batch of %s, number %d: %s", each.place, each.number, each.why)
        self.counts["unreadable"] += 1
        receipt = Receipt(
            incarnation=each.incarnation,
            number=each.number,
            store_id=self._store.store_id,
            commit=self._commit,
            unreadable=True,
        )
        return [_answer(each.place, "receipt/{gateway}", receipt)]

    async def _greet(self, place: Place, hello: Hello, received_us: int) -> list[Message]:
        """Book what the gateway knows of, then answer with what the store has of it."""
        self.counts["hellos"] += 1
        is_new = hello.incarnation not in self._lives.get(place, ())
        answers = self._watch_lives(place, hello.incarnation)
        heads: dict[str, dict[int, int]] = {}
        for book in hello.books:
            if self._belongs(book.device, place[0]):
                heads.setdefault(book.device, {})[book.epoch] = book.highest
        batch = Batch(
            incarnation=hello.incarnation, number=hello.number, lane="backfill", heads=heads
        )
        delivery = Delivery(site=place[0], gateway=place[1], batch=batch, received_us=received_us)
        is_known = await self._store.knows(hello.commit, hello.heard)
        receipt = (await self._store.commit([delivery])).receipts[0]
        store_id, commit = receipt.store_id, receipt.commit
        if store_id in hello.former or (hello.store_id == store_id and not is_known):
            answers.append(await self._restored(place, hello, commit))
            store_id = self._store.store_id
        self._commit = commit
        books = await self._books(place, None if is_new else heads.keys())
        asked = books if is_new else welcoming.asked(hello, books)
        refill = welcoming.refill(
            asked, store_id=store_id, commit=commit, holes_max=self._holes_max
        )
        answers += [
            _answer(place, "receipt/{gateway}", welcome)
            for welcome in welcoming.welcomes(
                hello, books, store_id=store_id, commit=commit, branch=receipt.branch
            )
        ]
        if refill is not None:
            answers.append(_answer(place, "refill/{gateway}", refill))
        elif books and hello.store_id == store_id:  # and nothing of what it says is missing
            answers += self._over(place, RESTORED, "its gateways have refilled the store")
            text = "what its gateways had is back"
            return [*answers, *self._over(_STORE, FILE_DAMAGED, text, cause="/".join(place))]
        if (_STORE[0], FILE_DAMAGED, _STORE[1]) in self.standing:
            self.standing.raised((_STORE[0], FILE_DAMAGED, _STORE[1]), "/".join(place))
        return answers

    async def damaged(self, aside: Sequence[Path]) -> list[Message]:
        """Return the alarm about a store that was set aside, while the new one has nothing yet.

        It is over once no gateway that has spoken since misses anything.
        """
        if not aside or await self._store.knows(1, {}):
            return []
        text = f"the store was damaged, it is {aside[-1].name} now"
        return [self._cry(_STORE, FILE_DAMAGED, text)]

    async def _books(self, place: Place, devices: Iterable[str] | None) -> list[StoredBook]:
        """Give the books of these devices; of all of the site for a gateway that has just started.

        It may have lost its disk, and not know what it once knew.
        """
        books = await self._store.books(devices)
        return [book for book in books if self._belongs(book.spiffe_id, place[0])]

    async def _restored(self, place: Place, hello: Hello, commit: int) -> Message:
        """Take a new name: a gateway has heard of a commit, or a name, that came after this."""
        former = self._store.store_id
        await self._store.renew()
        self.counts["restored"] += 1
        return self._cry(
            place,
            RESTORED,
            f"the store {former} was restored from a backup: it is at commit {commit}, and has"
            f" never made all that its gateway has heard of, up to {hello.commit} of"
            f" {hello.store_id}; it is {self._store.store_id} now, and is refilled",
        )

    def _watch_lives(self, place: Place, incarnation: int) -> list[Message]:
        """Raise an alarm when a former incarnation speaks again: there are two of this gateway."""
        lives = self._lives.setdefault(place, [])
        if lives and lives[-1] == incarnation:
            return self._alone(place)
        again = incarnation in lives
        if again:
            lives.remove(incarnation)
        lives.append(incarnation)
        del lives[:-INCARNATIONS_KEPT]
        if not again:
            return []
        self.counts["interleaved"] += 1
        self._interleaved_us[place] = self._clock.monotonic_us()
        return [
            self._cry(
                place,
                TWINS,
                f"two gateways have this identity: incarnation {incarnation} speaks again",
            )
        ]

    def _alone(self, place: Place) -> list[Message]:
        """Clear the alarm about two gateways once only one has spoken for a while."""
        since_us = self._interleaved_us.get(place)
        if since_us is not None and self._clock.monotonic_us() - since_us < QUIET_US:
            return []
        self._interleaved_us.pop(place, None)
        return self._over(place, TWINS, "only one incarnation speaks")

    def _over(self, place: Place, rule: str, text: str, *, cause: str = UNKNOWN) -> list[Message]:
        """Return the message that clears an alarm, if it stands for no other cause."""
        if not self.standing.over((place[0], rule, place[1]), cause):
            return []
        LOG.info("alarm %s of %s at %s is over: %s", rule, place[1], place[0], text)
        return [alarm.cleared(place[0], rule, place[1], text, self._clock.wall_us())]

    def _cry(self, place: Place, rule: str, text: str) -> Message:
        """Return the alarm about a gateway, and say it in the log."""
        LOG.error("alarm %s of %s at %s: %s", rule, place[1], place[0], text)
        self.standing.raised((place[0], rule, place[1]))
        return alarm.raised(place[0], rule, place[1], text, self._clock.wall_us())

    def figures(self) -> dict[str, int]:
        """Return what was counted since the start, also what is still zero."""
        return {what: self.counts[what] for what in _FIGURES}

    def metrics(self) -> list[Metric]:
        """Return every figure now."""
        name = "plantroom_ingest_{}_total".format
        return [
            *(
                Metric(name(what), "counter", _FIGURES[what], count)
                for what, count in self.figures().items()
            ),
            *(
                Metric(name("quarantined"), "counter", "Set apart", count, {"reason": reason})
                for reason, count in sorted(self.quarantined.items())
            ),
        ]


_FIGURES = {
    "batches": "Batches committed",
    "commits": "Commits of the store",
    "stored": "Readings stored",
    "duplicates": "Readings that were stored before",
    "after_retention": "Duplicates of readings that are beyond retention",
    "late": "Readings that came after their hour had closed",
    "unreadable": "Batches that could not be read",
    "refused": "Messages that could not even be answered",
    "failed": "Groups that the store could not commit",
    "hellos": "Hellos answered",
    "restored": "Times that the store was found to be restored from a backup",
    "interleaved": "Times that a former incarnation of a gateway spoke again",
}


def _answer(place: Place, pattern: str, answer: Envelope) -> Message:
    return Message(
        topic=topics.build(pattern, *place),
        payload=envelope.encode(answer),
        content_type=envelope.CONTENT_TYPE,
    )
