"""A broker that does not run, read from its database: who has sessions there, what is retained."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from plantroom.broker.filters import filter_fault, matches
from plantroom.broker.runs import parse_one
from plantroom.broker.server import RetainedInfo, SessionInfo
from plantroom.wire.errors import UsageError
from plantroom.wire.sqlite import translated


def sessions(path: Path) -> list[SessionInfo]:
    """Return every session that is kept, none of them connected.

    `queued_bytes` is what the log holds for a session, which it may share with others.

    Raises:
        StorageError: when the database cannot be read.
    """
    with _reading(path) as db:
        filters: dict[int, list[str]] = defaultdict(list)
        for sid, topic_filter in db.execute("SELECT sid, topic_filter FROM subscription"):
            filters[sid].append(topic_filter)
        queued = dict(
            db.execute(
                "SELECT waiting.sid, SUM(LENGTH(segment.data)) FROM waiting"
                " JOIN segment ON segment.id = waiting.segment"
                " LEFT JOIN delivery ON delivery.sid = waiting.sid"
                " WHERE waiting.end > coalesce(delivery.done, 0) GROUP BY waiting.sid"
            )
        )
        return [
            SessionInfo(
                spiffe_id=spiffe_id,
                client_id=client_id,
                connected=False,
                address="",
                expiry_s=expiry_s,
                subscriptions=tuple(filters[sid]),
                queued_bytes=queued.get(sid, 0),
                in_flight=0,
            )
            for sid, spiffe_id, client_id, expiry_s in db.execute(
                "SELECT sid, spiffe_id, client_id, expiry_s FROM session ORDER BY sid"
            )
        ]


def retained(path: Path, topic_filter: str) -> list[RetainedInfo]:
    """Return the retained messages on these topics, in their order.

    Raises:
        UsageError: when the filter is none.
        StorageError: when the database cannot be read.
    """
    fault = filter_fault(topic_filter)
    if fault is not None:
        raise UsageError(f"{topic_filter!r}: {fault}")
    with _reading(path) as db:
        rows = db.execute("SELECT topic, packet, publisher, at_us FROM retained ORDER BY topic")
        return [
            _info(packet, publisher, at_us)
            for topic, packet, publisher, at_us in rows
            if matches(topic_filter, topic)
        ]


def _info(packet: bytes, publisher: str, at_us: int) -> RetainedInfo:
    message = parse_one(packet)
    return RetainedInfo(
        topic=message.topic,
        publisher=publisher,
        at_us=at_us,
        qos=message.qos,
        payload_bytes=len(message.payload),
    )


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with translated(path):
        link = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with closing(link):
            yield link
