"""The gateway's and the cloud's quarantine in a state folder, whether anything runs or not."""

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

from plantroom.cloud import quarantine as cloud
from plantroom.cloud import replaying
from plantroom.cloud.store_schema import MIGRATIONS as STORE_TABLES
from plantroom.gateway import quarantine as gateway
from plantroom.gateway import tables
from plantroom.gateway.queue_schema import MIGRATIONS as QUEUE_TABLES
from plantroom.gateway.tables import Life
from plantroom.lab import decoded
from plantroom.lab.layout import Layout
from plantroom.wire import cbor
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import PackError, UsageError
from plantroom.wire.quarantined import Quarantined
from plantroom.wire.reading import Reading
from plantroom.wire.sqlite import Migrations, connect, translated

T = TypeVar("T")
Place = Literal["gateway", "cloud"]
PLACES: Final[tuple[Place, ...]] = ("gateway", "cloud")


class Found(NamedTuple):
    """An item, and whose quarantine it is in."""

    place: Place
    item: Quarantined

    @property
    def name(self) -> str:
        """What commands call it: `gateway:7`."""
        return f"{self.place}:{self.item.name}"


def listed(layout: Layout) -> list[Found]:
    """Return everything in both quarantines."""
    found: list[Found] = []
    for place in PLACES:
        with _opened(layout, place) as connection:
            if connection is not None:
                found += [Found(place, item) for item in _items(place)(connection)]
    return found


def one(layout: Layout, name: str) -> Found:
    """Return the item with this name.

    Raises:
        UsageError: when there is none.
    """
    for found in listed(layout):
        if found.name == name:
            return found
    raise UsageError("nothing in quarantine has this name", where=name, remedy="quarantine ls")


def raw(layout: Layout, found: Found) -> bytes | None:
    """Return an item's bytes; None when they are not kept."""
    with _opened(layout, found.place) as connection:
        if connection is None:
            return None
        look = gateway.raw if found.place == "gateway" else cloud.raw
        return look(connection, found.item)


def content(data: bytes) -> dict[str, Any]:
    """Return what an item's bytes say: a reading of ours, or whatever the payload was."""
    try:
        plain = cbor.loads(data, bytes_max=len(data), error=PackError)
        return {"kind": "reading", "reading": decoded.reading_plain(Reading.from_plain(plain))}
    except (PackError, TypeError, ValueError):
        return decoded.content(data)


def drop(layout: Layout, found: Found, why: str) -> None:
    """Give an item up, for a reason that stays on record."""
    at_us = SystemClock().wall_us()
    act = gateway.drop if found.place == "gateway" else cloud.drop
    _change(layout, found, lambda connection: act(connection, found.item, why, at_us))


def replay(layout: Layout, found: Found) -> int:
    """Send an item through its validation again; return how many readings were new.

    Raises:
        CheckFailedError: when it is refused again; then nothing has changed.
    """

    def act(connection: sqlite3.Connection) -> int:
        if found.place == "gateway":
            return gateway.replay(connection, found.item, _life(connection))
        return replaying.replay(connection, found.item, SystemClock().wall_us())

    return _change(layout, found, act)


def _life(connection: sqlite3.Connection) -> Life:
    """Return the run of the gateway that has, or had, this queue."""
    incarnation = int(tables.meta(connection, "incarnation", 0))
    return Life(incarnation=incarnation, clock=SystemClock(), random_bits=secrets.randbits)


def _change(layout: Layout, found: Found, act: Callable[[sqlite3.Connection], T]) -> T:
    path, _ = _file(layout, found.place)
    with _opened(layout, found.place) as connection, translated(path):
        if connection is None:
            raise UsageError("there is no such quarantine", where=str(path))
        connection.execute("BEGIN IMMEDIATE")
        try:
            done = act(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return done


def _items(place: Place) -> Callable[[sqlite3.Connection], list[Quarantined]]:
    return gateway.items if place == "gateway" else cloud.items


def _file(layout: Layout, place: Place) -> tuple[Path, Migrations]:
    if place == "gateway":
        return layout.queue, QUEUE_TABLES
    return layout.store, STORE_TABLES


@contextmanager
def _opened(layout: Layout, place: Place) -> Iterator[sqlite3.Connection | None]:
    path, migrations = _file(layout, place)
    if not path.exists():
        yield None
        return
    with closing(connect(path, migrations)) as connection, translated(path):
        yield connection
