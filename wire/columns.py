"""Readings as columns: what makes a batch small on the bridge's wire.

Readings that have the same points form a table, whoever sent them: a hundred sensors of one kind
share one heading. Inside a table the readings of one (device, epoch) stand together, so that a
column changes slowly; `order` brings the batch's own order back.

`[count, order, tables]`; a table is
`[devices, epochs, counts, seqs, times, monos, points, columns]`,
with as many devices, epochs and counts as it has different (device, epoch), and the rest once a
reading. `times` or `monos` is None where no reading has one. A point is `[name, unit, kind]`; its
column is a series (`series.py`), or the index of an earlier column that is the same.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

from plantroom.wire import integers, series
from plantroom.wire.errors import PackError
from plantroom.wire.reading import POINTS_MAX, Plain, Point, Reading

READINGS_MAX = 20_000
VALUES_MAX = 400_000  # points of all readings: some 50 MB once decoded, however few bytes say so

_Shape = tuple[bool, bool, tuple[tuple[str, str | None, type], ...]]  # untimed, unclocked, …


def encode(readings: Sequence[Reading]) -> list[Any]:
    """Encode readings as plain CBOR values; `decode` gives the same in the same order.

    Raises:
        PackError: when they are more than `decode` would take; `reason` is `too-large`.
    """
    return encode_plain([reading.plain() for reading in readings])


def encode_plain(readings: Sequence[Plain]) -> list[Any]:
    """Encode readings that are plain values already; otherwise as `encode` does.

    Raises:
        PackError: as `encode` does.
    """
    if len(readings) > READINGS_MAX or sum([len(plain[5]) for plain in readings]) > VALUES_MAX:
        raise PackError(f"more than {READINGS_MAX} readings in one batch", reason="too-large")
    tables: dict[_Shape, dict[tuple[str, int], list[int]]] = {}
    for i, (device, epoch, _, time_us, mono_us, points) in enumerate(readings):
        headings = tuple([(name, unit, type(value)) for name, unit, value in points])
        senders = tables.setdefault((time_us is None, mono_us is None, headings), {})
        senders.setdefault((device, epoch), []).append(i)
    order = list(chain.from_iterable(chain.from_iterable(t.values()) for t in tables.values()))
    in_order = order == list(range(len(readings)))
    return [
        len(readings),
        None if in_order else integers.encode(order),
        [_table(readings, shape, senders) for shape, senders in tables.items()],
    ]


def _table(
    readings: Sequence[Plain], shape: _Shape, senders: dict[tuple[str, int], list[int]]
) -> list[Any]:
    rows = [readings[i] for i in chain.from_iterable(senders.values())]
    untimed, unclocked, headings = shape
    _, _, seqs, times, monos, points = zip(*rows, strict=True)
    kinds = [series.KINDS[kind] for _, _, kind in headings]
    return [
        [device for device, _ in senders],
        integers.encode([epoch for _, epoch in senders]),
        integers.encode([len(members) for members in senders.values()]),
        integers.encode(seqs),
        None if untimed else integers.encode(times),
        None if unclocked else integers.encode(monos),
        [[name, unit, kind] for (name, unit, _), kind in zip(headings, kinds, strict=True)],
        list(_columns(points, kinds)),
    ]


def _columns(rows: Sequence[Sequence[Any]], kinds: Sequence[int]) -> Iterator[Any]:
    """Encode the points of a table's readings, one column for each kind."""
    seen: dict[tuple[Any, ...], int] = {}
    for i, kind in enumerate(kinds):
        values = [points[i][2] for points in rows]
        same = seen.setdefault((kind, *values), i)
        yield series.encode(kind, values) if same == i else same


def decode(rows: Any) -> tuple[Reading, ...]:
    """Decode; the inverse of `encode`.

    Counts are checked before anything of their size is made.

    Raises:
        PackError: when a form or a reading breaks a rule.
    """
    match rows:
        case [int(count), order, list(tables)] if 0 <= count <= READINGS_MAX:
            readings = _readings(tables, count)
        case _:
            raise PackError(f"rows are not [count up to {READINGS_MAX}, order, tables]")
    if order is None:
        return tuple(readings)
    places = integers.decode(order, count)
    if sorted(places) != list(range(count)):
        raise PackError("the order is not one of all readings")
    ordered = dict(zip(places, readings, strict=True))
    return tuple([ordered[place] for place in range(count)])


def _readings(tables: list[Any], count: int) -> list[Reading]:
    """Decode the tables, which together have `count` readings."""
    readings: list[Reading] = []
    values = 0
    for table in tables:
        match table:
            case [list(devices), epochs, counts, seqs, times, monos, list(points), list(columns)]:
                sizes = _sizes(counts, len(devices), count - len(readings))
                values += sum(sizes) * len(points)
                if values > VALUES_MAX or not 0 < len(points) <= POINTS_MAX:
                    raise PackError("too many points, or none", reason="points")
                keys = _keys(devices, epochs, sizes)
                made = _points(points, columns, sum(sizes))
                readings += _rows(keys, (seqs, times, monos), made, sum(sizes))
            case _:
                raise PackError("a table of no known form")
    if len(readings) != count:
        raise PackError(f"{len(readings)} readings, {count} were announced")
    return readings


def _sizes(counts: Any, number: int, left: int) -> list[int]:
    """Return how many readings each of `number` (device, epoch) has; at most `left` in all."""
    if number > left:
        raise PackError("more devices than readings")
    sizes = integers.decode(counts, number)
    if not sizes or min(sizes) < 1 or sum(sizes) > left:
        raise PackError("a table has no reading, or more than were announced")
    return sizes


def _keys(devices: list[Any], epochs: Any, sizes: list[int]) -> Iterator[tuple[str, int]]:
    if not all(isinstance(device, str) for device in devices):
        raise PackError("a device is not text", reason="bad-name")
    senders = zip(devices, integers.decode(epochs, len(devices)), strict=True)
    return chain.from_iterable(map(repeat, senders, sizes))


def _points(headings: list[Any], columns: list[Any], count: int) -> list[tuple[Point, ...]]:
    """Return the points of each reading of a table."""
    if len(headings) != len(columns):
        raise PackError(f"{len(columns)} columns for {len(headings)} points")
    decoded: list[tuple[int, Sequence[Any]]] = []
    made = []
    for heading, column in zip(headings, columns, strict=True):
        match heading:
            case [str(name), str() | None as unit, int(kind)]:
                values = _values(kind, column, count, decoded)
            case _:
                raise PackError("a point of no known form")
        decoded.append((kind, values))
        known = {value: Point(name=name, unit=unit, value=value) for value in set(values)}
        made.append([known[value] for value in values])
    return list(zip(*made, strict=True))


def _values(
    kind: int, column: Any, count: int, earlier: list[tuple[int, Sequence[Any]]]
) -> Sequence[Any]:
    if type(column) is not int:
        return series.decode(kind, column, count)
    if not 0 <= column < len(earlier) or earlier[column][0] != kind:
        raise PackError("a column is said to be one that it cannot be")
    return earlier[column][1]


def _rows(
    keys: Iterator[tuple[str, int]],
    numbers: tuple[Any, Any, Any],
    points: list[tuple[Point, ...]],
    count: int,
) -> Iterator[Reading]:
    seqs, times, monos = (
        repeat(None, count) if plain is None else integers.decode(plain, count) for plain in numbers
    )
    for (device, epoch), seq, time_us, mono_us, row in zip(
        keys, seqs, times, monos, points, strict=True
    ):
        if seq is None:
            raise PackError("a reading without a seq", reason="no-key")
        yield Reading(
            device=device, time_us=time_us, mono_us=mono_us, points=row, epoch=epoch, seq=seq
        )
