"""What may be done about the gateway's quarantine: look, replay after a fix, drop with a reason.

It works on the queue's file, beside a gateway that runs or without one; each is one transaction.
A replay sends the bytes through the very validation that refused them.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from plantroom.gateway import ingress, tables
from plantroom.gateway.ingress import Intake
from plantroom.gateway.posting import Posting
from plantroom.gateway.tables import Life
from plantroom.wire import cbor, senml, topics
from plantroom.wire.envelope import note_from
from plantroom.wire.errors import CheckFailedError, PackError, PlantroomError, SpiffeIdError
from plantroom.wire.quarantined import DROPPED, REPLAYED, Quarantined, why_not
from plantroom.wire.reading import Reading, Sample
from plantroom.wire.seal import seal
from plantroom.wire.spiffe import SpiffeId

NOTE: Final = "unreadable-note"
_REPLAY: Final = "replay"
_COLUMNS: Final = (
    "id, device, epoch, first, last, reason, text, hash, at_us, length(raw), outcome, outcome_us"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replayed:
    """The message that an item came in, as the broker would hand it over again."""

    topic: str
    payload: bytes
    user: Mapping[str, str] = field(default_factory=dict)
    dup: bool = False
    packet_id: int = 0
    session: object = _REPLAY


def items(connection: sqlite3.Connection) -> list[Quarantined]:
    """Return everything that was ever set apart here, oldest first."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM quarantine ORDER BY id")
    return [
        Quarantined(
            name=str(number),
            device=device,
            epoch=epoch,
            first=first,
            last=last,
            reason=reason,
            text=text,
            hash=bytes(digest),
            at_us=at_us,
            size=size,
            outcome=outcome,
            outcome_us=outcome_us,
        )
        for (
            number, device, epoch, first, last, reason, text, digest, at_us, size, outcome,
            outcome_us,
        ) in rows
    ]  # fmt: skip


def raw(connection: sqlite3.Connection, item: Quarantined) -> bytes | None:
    """Return the bytes of an item, as far as they are kept."""
    row = connection.execute("SELECT raw FROM quarantine WHERE id = ?", (item.name,)).fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


def drop(connection: sqlite3.Connection, item: Quarantined, why: str, at_us: int) -> None:
    """Give an item up: its bytes go; key, hash, reason and why it went stay on record."""
    if item.outcome:
        raise CheckFailedError(why_not(item), where=item.name)
    _end(connection, item, DROPPED + why, at_us)
    tables.tally(connection, "quarantine-dropped")


def replay(connection: sqlite3.Connection, item: Quarantined, life: Life) -> int:
    """Send an item through the validation again; return how many readings of it were new.

    Raises:
        CheckFailedError: when it is refused again, and why; the caller rolls back.
    """
    data = raw(connection, item)
    if why_not(item) or data is None:
        raise CheckFailedError(why_not(item), where=item.name)
    new = 0
    if item.reason == NOTE:
        _note_again(connection, data)
    else:
        intake = _intake(item, data)
        posting = Posting(
            connection,
            life,
            aged_us=int(tables.meta(connection, "running_us", 0)),
            quarantine_bytes_max=0,
        )
        posting.post(intake)
        posting.flush()
        if item.epoch in intake.reused:
            raise _refused(ingress.REUSE, "another reading has this key", item)
        new = posting.accepted
    _end(connection, item, REPLAYED, life.clock.wall_us())
    tables.tally(connection, "quarantine-replayed")
    return new


def _intake(item: Quarantined, data: bytes) -> Intake:
    """Read an item as ingress does; what is good in it is returned, and nothing else."""
    try:
        device = SpiffeId.parse(item.device)
        plain = _plain(data)
        payload = data if plain is None else senml.encode((Reading.from_plain(plain),))
        topic = topics.build(ingress.TELEMETRY, topics.CLOUD_SITE, device.name)
    except (SpiffeIdError, PackError, TypeError, ValueError) as error:
        raise _refused(item.reason, str(error), item) from error
    whole = plain is None and item.epoch is not None
    claim = {"range": f"{item.epoch}/{item.first}/{item.last}"} if whole else {}
    intake = ingress.read(_Replayed(topic=topic, payload=payload, user=claim), device.trust_domain)
    if intake is None:  # pragma: no cover -- the topic is a telemetry topic
        raise _refused(item.reason, "not telemetry", item)
    for bad in intake.bad:
        if bad.first is None or (bad.epoch, bad.first) == (item.epoch, item.first):
            raise _refused(bad.reason, bad.text, item)
    intake.bad.clear()  # others of the same pack, set apart on their own
    intake.samples = tuple(_as_it_came(sample, item.at_us) for sample in intake.samples)
    return intake


def _as_it_came(sample: Sample, at_us: int) -> Sample:
    """Give a time that was relative to the arrival; it is of then, not of now."""
    if sample.time_us is not None or sample.mono_us is not None:
        return sample
    return replace(sample, time_us=at_us + sample.offset_us, offset_us=0)


def _plain(data: bytes) -> list[object] | None:
    """Return a reading's plain values when that is what was kept; None for a whole payload."""
    try:
        plain = cbor.loads(data, bytes_max=len(data), error=PackError)
    except PlantroomError:
        return None
    return plain if isinstance(plain, list) and plain and isinstance(plain[0], str) else None


def _note_again(connection: sqlite3.Connection, body: bytes) -> None:
    note = note_from(body)
    digest = sha256(body).digest() if note.author == "sensor" else body
    if not tables.add_note(connection, note, digest, body):
        connection.execute(
            "UPDATE note SET told = 0 WHERE device = ? AND author = ? AND life = ? AND number = ?"
            " AND hash = ?",
            (note.device, note.author, note.life, note.number, digest),
        )


def _end(connection: sqlite3.Connection, item: Quarantined, outcome: str, at_us: int) -> None:
    connection.execute(
        "UPDATE quarantine SET raw = NULL, outcome = ?, outcome_us = ? WHERE id = ?",
        (outcome, at_us, item.name),
    )
    row = connection.execute(
        f"SELECT {tables.QUARANTINE_SEALED} FROM quarantine WHERE id = ?", (item.name,)
    ).fetchone()
    connection.execute("UPDATE quarantine SET seal = ? WHERE id = ?", (seal(*row), item.name))
    kept = int(tables.meta(connection, "quarantine_bytes", 0))
    tables.set_meta(connection, "quarantine_bytes", max(0, kept - (item.size or 0)))


def _refused(reason: str, text: str, item: Quarantined) -> CheckFailedError:
    return CheckFailedError(
        f"refused again, {reason}: {text}"[:400],
        where=item.device
        if item.epoch is None
        else f"{item.device} epoch {item.epoch} seq {item.first}",
        remedy="it stays in quarantine; fix the cause, or drop it",
    )
