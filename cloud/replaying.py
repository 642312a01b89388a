"""Readings of the cloud's quarantine, sent after a fix through the validation that refused them."""

import sqlite3

from plantroom.cloud import quarantine
from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.store import Delivery
from plantroom.cloud.writing import Writer
from plantroom.wire import cbor
from plantroom.wire.envelope import Batch
from plantroom.wire.errors import CheckFailedError, PackError
from plantroom.wire.quarantined import Quarantined, why_not
from plantroom.wire.reading import Reading
from plantroom.wire.topics import GATEWAY


def replay(connection: sqlite3.Connection, item: Quarantined, at_us: int) -> int:
    """Take an item's reading once more; return how many were new. The caller commits.

    Raises:
        CheckFailedError: when it is refused again, and why; the caller rolls back.
    """
    data = quarantine.raw(connection, item)
    if why_not(item) or data is None:
        raise CheckFailedError(why_not(item), where=item.name)
    try:
        plain = cbor.loads(data, bytes_max=len(data), error=PackError)
        reading = Reading.from_plain(plain)
    except (PackError, TypeError, ValueError) as error:
        raise _refused(item.reason, str(error), item) from error
    batch = Batch(incarnation=0, number=0, lane="backfill", readings=(reading,))
    delivery = Delivery(
        site=quarantine.site_of(connection, item),
        gateway=GATEWAY,
        batch=batch,
        received_us=at_us,
    )
    done = Writer(belongs_by_name, raw_bytes_max=0).apply(connection, [delivery])
    for span in done.receipts[0].quarantined:
        raise _refused(span.reason, "as before", item)
    quarantine.replayed(connection, item, at_us)
    return len(done.stored)


def _refused(reason: str, text: str, item: Quarantined) -> CheckFailedError:
    return CheckFailedError(
        f"refused again, {reason}: {text}"[:400],
        where=f"{item.device} epoch {item.epoch} seq {item.first}",
        remedy="it stays in quarantine; fix the cause, or drop it",
    )
