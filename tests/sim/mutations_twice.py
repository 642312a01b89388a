"""Rules about what is there twice, comes back from a backup, or is old: each broken on purpose."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from plantroom.cloud import branches, retention, writing
from plantroom.cloud.ingest import Ingest
from plantroom.cloud.store import Committed
from plantroom.cloud.store_schema import RETIRED, STORED
from plantroom.gateway import answers, store_known
from plantroom.gateway.uplink import Uplink
from plantroom.wire import spans
from plantroom.wire.link import Message
from plantroom.wire.ranges import RangeSet, runs
from tests.sim.mutations import Mutation, any_incarnation, swap

# -- two gateways with one identity

_plain_deliver = Ingest._deliver


def _unnoticed(_self: Ingest, _place: Any, _incarnation: int) -> list[Message]:
    return []


async def _batch_known_by_number(self: Ingest, found: Any) -> list[Message]:
    """Take a batch whose number this gateway has used before for one that was stored."""
    known = self.__dict__.setdefault("known", {})
    again = []
    for delivery in list(found.deliveries):
        batch = delivery.batch
        if known.setdefault((delivery.gateway, batch.number), batch.incarnation) != (
            batch.incarnation
        ):
            found.deliveries.remove(delivery)
            again.append(delivery)
    receipts = []
    for delivery in again:
        tally = writing._Tally()
        for reading in delivery.batch.readings:
            tally.store([reading])
        receipts.append(tally.receipt(delivery.batch, self._store.store_id, self._commit + 1))
    answered = self._receipts(again, Committed(receipts=tuple(receipts))) if again else []
    return [*answered, *await _plain_deliver(self, found)]


# -- retention

_plain_let_go = retention._let_go


def _forgotten(connection: Any, ref: Any, first: int, last: int) -> int:
    """Let go readings as if they had never been stored."""
    gone = _plain_let_go(connection, ref, first, last)
    spans.discard(connection, (ref.id, STORED), first, last)
    return gone


def _with_its_holes(connection: Any, ref: Any, first: int, last: int) -> int:
    """Book a whole segment as stored and gone, also what has not come yet."""
    gone = _plain_let_go(connection, ref, first, last)
    for kind in (STORED, RETIRED):
        spans.add(connection, (ref.id, kind), first, last, retention.REASON if kind else "")
    return gone


# -- a store that was restored


def _not_sent_again(connection: Any, book: int, first: int, last: int) -> RangeSet:
    """Look for what a store asks for, and leave it as it is."""
    rows = connection.execute(
        "SELECT seq FROM reading WHERE book = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        (book, first, last),
    )
    return RangeSet(runs(row[0] for row in rows))


_plain_knows = branches.knows


def _known_by_count(connection: Any, commit: int, _heard: Any) -> bool:
    """Take a store that has counted as far as a gateway has heard for the one that it heard of."""
    return _plain_knows(connection, commit, {})


def _silent_about_former(connection: Any) -> Any:
    """Ignore a former store, and never tell it why."""
    return _plain_known(connection)._replace(former=())


_plain_known = store_known.known


@contextmanager
def _no_refill() -> Iterator[None]:
    """Send nothing again, be it for a new name of the store or for a hole in its books."""
    with (
        mock.patch.object(answers, "send_again", _not_sent_again),
        mock.patch.object(answers, "requeue", return_value=0),
    ):
        yield


STRICT = {"strict": True}

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        name="two gateways unnoticed",
        change=swap(Ingest, "_watch_lives", _unnoticed),
        faults=("clone-gateway",),
        plan=STRICT,
    ),
    Mutation(
        name="receipts of the other gateway",
        change=swap(Uplink, "_answered", any_incarnation),
        faults=("clone-gateway",),
        plan=STRICT | {"fault_every_s": 4.0, "period_s": 0.5, "late": 0.5},
        limits={"readings_max": 1000, "policy": "reject"},
        pace={"live_readings_max": 1, "backfill_readings_max": 1, "answer_timeout_s": 10.0},
    ),
    Mutation(
        name="batch known by its number",
        change=swap(Ingest, "_deliver", _batch_known_by_number),
        faults=("clone-gateway",),
        plan=STRICT,
    ),
    Mutation(
        name="retention forgets",
        change=swap(retention, "_let_go", _forgotten),
        faults=("retention", "kill-sensor"),
        plan=STRICT,
        limits={"readings_max": 1000},
    ),
    Mutation(
        name="retention takes what has not come",
        change=swap(retention, "_let_go", _with_its_holes),
        faults=("retention", "kill-sensor", "kill-gateway", "weather"),
        plan=STRICT | {"fault_every_s": 3.0, "period_s": 0.5},
        limits={"readings_max": 1000, "policy": "reject"},
    ),
    Mutation(
        name="restored store known by its count",
        change=swap(branches, "knows", _known_by_count),
        faults=("restore-cloud", "reboot-sensor"),
        plan=STRICT | {"fault_every_s": 3.0, "period_s": 0.5},
        limits={"readings_max": 1000, "policy": "reject"},
        pace={"live_readings_max": 1, "backfill_readings_max": 1, "hello_s": 60.0},
    ),
    Mutation(
        name="former store not told that it is one",
        change=swap(store_known, "known", _silent_about_former),
        faults=("restore-cloud",),
        plan=STRICT | {"fault_every_s": 2.0},
    ),
    Mutation(
        name="not sent again to a restored store",
        change=_no_refill,
        faults=("restore-cloud",),
        plan=STRICT | {"fault_every_s": 3.0},
        limits={"readings_max": 1000},
    ),
    Mutation(
        name="not sent again to a restored store, beside a clone",
        change=_no_refill,
        faults=("restore-cloud", "clone-gateway"),
        plan=STRICT | {"fault_every_s": 3.0},
        limits={"readings_max": 1000},
    ),
)
