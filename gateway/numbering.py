"""Numbers for readings that come without: the gateway gives them an epoch of its own per device.

The epoch is a new one at every start of the gateway, so that a restored disk cannot reuse one.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from plantroom.gateway.ingress import Row
from plantroom.wire.clock import is_plausible
from plantroom.wire.errors import PackError
from plantroom.wire.reading import KEY_MAX, Reading, Sample

_RANDOM_BITS = 20
_DELIVERIES_MAX = 200_000


def new_epoch(last: int, wall_us: int, random_bits: int) -> int:
    """Return an epoch above `last`: `max((last >> 20) + 1, unix seconds) << 20 | 20 random bits`.

    53 bits, safe in JSON; the clock counts only where it can be right.
    """
    seconds = wall_us // 1_000_000 if is_plausible(wall_us) else 0
    counter = max((last >> _RANDOM_BITS) + 1, seconds)
    return (counter << _RANDOM_BITS | random_bits & (1 << _RANDOM_BITS) - 1) & KEY_MAX


def is_redelivery(
    connection: sqlite3.Connection, delivery: tuple[str, int, bool, bytes], segment: int
) -> bool:
    """Say whether this unnumbered message was taken before, and remember it if not.

    MQTT repeats a message in the same session under the same packet id with DUP set; the payload's
    hash tells it from another message that reuses the id.
    """
    session, packet_id, dup, digest = delivery
    row = connection.execute(
        "SELECT hash FROM unnumbered WHERE session = ? AND packet_id = ?", (session, packet_id)
    ).fetchone()
    if dup and row is not None and row[0] == digest:
        return True
    connection.execute(
        "INSERT OR REPLACE INTO unnumbered(session, packet_id, hash, segment) VALUES(?, ?, ?, ?)",
        (session, packet_id, digest, segment),
    )
    return False


def is_given_again(
    connection: sqlite3.Connection, device: str, names: Sequence[bytes], segment: int
) -> bool:
    """Say whether a call has given this reading before, and remember it if not."""
    known = was_given(connection, device, names)
    connection.executemany(
        "INSERT OR IGNORE INTO accepted(device, name, segment) VALUES(?, ?, ?)",
        [(device, name, segment) for name in names],
    )
    return known


def was_given(connection: sqlite3.Connection, device: str, names: Sequence[bytes]) -> bool:
    """Say whether a call has given this reading before, under any of its names."""
    return any(
        connection.execute(
            "SELECT 1 FROM accepted WHERE device = ? AND name = ?", (device, name)
        ).fetchone()
        for name in names
    )


def forget_old_deliveries(connection: sqlite3.Connection, segment: int) -> None:
    """Keep the memory of deliveries bounded: those of the latest segments are enough."""
    oldest = (segment - _DELIVERIES_MAX,)
    connection.execute("DELETE FROM unnumbered WHERE segment < ?", oldest)
    connection.execute("DELETE FROM accepted WHERE segment < ?", oldest)


def number(  # noqa: PLR0913 -- whose, what, and where numbers come from
    connection: sqlite3.Connection,
    device: str,
    samples: Iterable[Sample],
    *,
    incarnation: int,
    fresh_epoch: Callable[[int], int],
    now_us: int,
) -> tuple[list[Row], list[PackError]]:
    """Give samples the next numbers of the gateway's epoch for `device`; bad ones come back.

    A sample without a time of its own is given that of its arrival, and what it says beside that.
    """
    row = connection.execute(
        "SELECT incarnation, epoch, next FROM numbering WHERE device = ?", (device,)
    ).fetchone()
    if row is None or row[0] != incarnation:
        row = (incarnation, fresh_epoch(row[1] if row else 0), 0)
    _, epoch, following = row
    rows, bad = [], []
    for sample in samples:
        time_us = sample.time_us
        if time_us is None and sample.mono_us is None:
            time_us = now_us + sample.offset_us
        try:
            own = Sample(
                device=device, time_us=time_us, mono_us=sample.mono_us, points=sample.points
            )
            reading = Reading.numbered(own, epoch=epoch, seq=following)
        except PackError as error:
            bad.append(error)
            continue
        rows.append(Row(epoch, following, reading.hash(), reading.canonical()))
        following += 1
    connection.execute(
        "INSERT OR REPLACE INTO numbering(device, incarnation, epoch, next) VALUES(?, ?, ?, ?)",
        (device, incarnation, epoch, following),
    )
    return rows, bad
