"""SenML in CBOR (RFC 8428, content format 112): readings to bytes and back.

A pack is an array of records. The first record of each reading carries `bn` (SPIFFE ID and `/`),
`bt` (absent while the clock is not synchronised) and the extension labels `epoch`, `seq`, `mono`
(text labels; RFC 8428 4.4 lets other readers ignore them). A reading that breaks a rule is set
apart alone; the others go on.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from plantroom.wire import cbor, senml_record
from plantroom.wire.errors import PackError
from plantroom.wire.reading import (
    DEVICE_CHARS_MAX,
    KEY_MAX,
    POINTS_MAX,
    TIME_US_MAX,
    TIME_US_MIN,
    Plain,
    Reading,
    Sample,
    Value,
    check_label,
    check_text,
    number,
)
from plantroom.wire.senml_record import (
    BN,
    BT,
    BU,
    BV,
    BVER,
    EPOCH,
    MONO,
    SECONDS_MAX,
    SEQ,
    VB,
    VD,
    VS,
    N,
    S,
    T,
    U,
    V,
    microseconds,
)

CONTENT_TYPE = "application/senml+cbor"
PACK_BYTES_MAX = 256 * 1024
RECORDS_MAX = 20_000

_STARTS_A_READING = (BN, BT, EPOCH, SEQ, MONO)
_SECONDS_MIN = TIME_US_MIN // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BadReading:
    """A reading that breaks a rule: its key as far as it could be read, the reason, the text.

    Those without a key are one, whose `raw` is a pack of all that is bad in this one.
    """

    device: str
    epoch: int | None
    seq: int | None
    reason: str
    text: str
    raw: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """What a payload held: numbered readings, samples without a number, and bad readings."""

    readings: tuple[Reading, ...] = ()
    samples: tuple[Sample, ...] = ()
    bad: tuple[BadReading, ...] = ()


def encode(readings: Iterable[Reading]) -> bytes:
    """Encode readings as one pack; `decode` gives the same readings back."""
    return cbor.dumps([record for reading in readings for record in _records(reading)])


def _records(reading: Reading) -> Iterator[dict[int | str, object]]:
    first: dict[int | str, object] = {BN: reading.device + "/", EPOCH: reading.epoch}
    first[SEQ] = reading.seq
    if reading.time_us is not None:
        first[BT] = _seconds(reading.time_us)
    if reading.mono_us is not None:
        first[MONO] = reading.mono_us
    for point in reading.points:
        record = first | {N: point.name}
        first = {}
        if point.unit is not None:
            record[U] = point.unit
        record[_label(point.value)] = _shortest(point.value)
        yield record


def _seconds(time_us: int) -> float | int:
    whole, rest = divmod(time_us, 1_000_000)
    return time_us / 1_000_000 if rest else whole


def _label(value: object) -> int:
    return VB if isinstance(value, bool) else VS if isinstance(value, str) else V


def _shortest(value: object) -> object:
    if isinstance(value, float) and value.is_integer() and abs(value) <= KEY_MAX:
        return int(value)
    return value


@dataclass(slots=True)
class _Draft:
    """A reading being collected from records; those with a value are `at` these places."""

    base: dict[Any, Any]
    key: dict[Any, Any]
    records: list[dict[Any, Any]] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    unknown: PackError | None = None

    @property
    def is_numbered(self) -> bool:
        return EPOCH in self.key or SEQ in self.key


def decode(data: bytes) -> Pack:
    """Decode one pack.

    Raises:
        PackError: when the payload as a whole cannot be read; `reason` is `undecodable`.
    """
    records = _records_in(data)
    own = _own_form(records)
    if own is None:
        return _any_form(records)
    return Pack(readings=tuple(map(Reading.from_plain, own)))


def decode_plain(data: bytes) -> list[Plain] | Pack:
    """Decode one pack; readings that are exactly as `encode` writes them stay plain values.

    They have passed every rule, as `decode` would have it, and cost a third of that.

    Raises:
        PackError: as `decode` does.
    """
    records = _records_in(data)
    own = _own_form(records)
    return _any_form(records) if own is None else own


def _records_in(data: bytes) -> list[Any]:
    records = cbor.loads(data, bytes_max=PACK_BYTES_MAX, error=PackError)
    if not isinstance(records, list) or not 0 < len(records) <= RECORDS_MAX:
        raise PackError(f"a pack is an array of 1 to {RECORDS_MAX} records")
    return records


def _own_form(records: list[Any]) -> list[Plain] | None:  # noqa: C901 -- a hot loop: see below
    """Read records that are exactly as `encode` writes them: nothing inherited, no offset.

    One loop on purpose: a call for each record would cost as much as all that it does.
    None means that they are not, or that a rule is broken: `_any_form` is the one that judges.
    """
    readings: list[Plain] = []
    points: list[list[object]] = []
    newest = ""
    try:
        for record in records:
            if type(record) is not dict:
                return None
            size = 2
            if BN in record:
                points, newest = [], ""
                readings.append(_own_head(record, points))
                size = 5 + (BT in record) + (MONO in record)
            elif not readings:
                return None
            name, unit, value = record.get(N), record.get(U), record.get(V)
            if type(name) is not str or name <= newest:
                return None
            if unit is not None:
                size += 1
                if type(unit) is not str:
                    return None
            if len(record) != size:
                return None
            check_label(name, unit)
            if type(value) is float and isfinite(value):
                value += 0.0  # -0.0 becomes 0.0
            elif type(value) is int and -KEY_MAX <= value <= KEY_MAX:
                value = float(value)
            else:
                value = _own_other(name, record)
            points.append([name, unit, value])
            newest = name
    except (PackError, _NotOwnFormError):
        return None
    return readings if all(len(plain[5]) <= POINTS_MAX for plain in readings) else None


class _NotOwnFormError(Exception):
    """The records are not as `encode` writes them; never leaves this module."""


def _own_head(head: dict[Any, Any], points: list[list[object]]) -> Plain:
    """Read what the first record of a reading says of it; its points are yet to come."""
    prefix, seconds, mono = head.get(BN), head.get(BT), head.get(MONO)
    epoch, seq = head.get(EPOCH), head.get(SEQ)
    if type(prefix) is not str or prefix[-1:] != "/" or len(prefix) > DEVICE_CHARS_MAX:
        raise _NotOwnFormError
    if type(epoch) is not int or type(seq) is not int:
        raise _NotOwnFormError
    if not 0 <= epoch <= KEY_MAX or not 0 <= seq <= KEY_MAX:
        raise _NotOwnFormError
    if mono is None:
        if MONO in head or seconds is None:
            raise _NotOwnFormError
    elif type(mono) is not int or not 0 <= mono <= KEY_MAX:
        raise _NotOwnFormError
    time_us = None
    if BT in head:
        time_us = _own_time(seconds)
    return [prefix[:-1], epoch, seq, time_us, mono, points]


def _own_time(seconds: object) -> int:
    if type(seconds) is not int and type(seconds) is not float:
        raise _NotOwnFormError
    if not _SECONDS_MIN <= seconds < SECONDS_MAX:
        raise _NotOwnFormError
    time_us = microseconds(seconds)
    if not TIME_US_MIN <= time_us <= TIME_US_MAX:
        raise _NotOwnFormError
    return time_us


def _own_other(name: str, record: dict[Any, Any]) -> Value:
    """Read a value that is no ordinary number."""
    if V in record:
        if type(record[V]) is not int:
            raise _NotOwnFormError
        return number(int(record[V]))
    text, truth = record.get(VS), record.get(VB)
    if type(text) is str:
        check_text(name, text)
        return text
    if type(truth) is not bool or VS in record:
        raise _NotOwnFormError
    return truth


def _any_form(records: list[Any]) -> Pack:
    readings: list[Reading] = []
    samples: list[Sample] = []
    bad: list[BadReading] = []
    drafts = list(_drafts(records))
    for draft in drafts:
        if draft.is_numbered:
            try:
                readings.append(_reading(draft))
            except PackError as error:
                bad.append(_bad(draft, error))
    faults: dict[int, BadReading] = {}
    foreign = [draft for draft in drafts if not draft.is_numbered]
    unknown = next((draft.unknown for draft in foreign if draft.unknown), None)
    for draft in foreign:
        for places in _groups(draft):
            try:
                if unknown is not None:  # RFC 8428 4.4: of the whole pack
                    raise unknown
                samples.append(_sample(draft, places))
            except PackError as error:
                faults |= {draft.at[place]: _bad(draft, error) for place in places}
    if faults:
        first = faults[min(faults)]
        bad.append(replace(first, raw=cbor.dumps(_without_others(records, faults))))
    return Pack(readings=tuple(readings), samples=tuple(samples), bad=tuple(bad))


def _without_others(records: list[Any], wanted: Collection[int]) -> list[dict[Any, Any]]:
    """Return these records, and of all others what they set for them."""
    kept = [
        record
        if place in wanted
        else {label: record[label] for label in (BVER, BN, BT, BU, BV) if label in record}
        for place, record in enumerate(records)
    ]
    return [record for record in kept if record]


def _drafts(records: list[Any]) -> Iterator[_Draft]:
    base: dict[Any, Any] = {}
    draft = _Draft(base, {})
    for place, record in enumerate(records):
        if not isinstance(record, dict):
            raise PackError("a record is not a map")
        if any(label in record for label in _STARTS_A_READING):
            if draft.records or draft.key or draft.unknown:
                yield draft
            key = {label: record[label] for label in (EPOCH, SEQ, MONO) if label in record}
            if key and BT not in record:  # a numbered reading never inherits another one's time
                base = {label: value for label, value in base.items() if label != BT}
            draft = _Draft(base, key)
        base = base | {label: record[label] for label in (BVER, BN, BT, BU, BV) if label in record}
        draft.base = base if not draft.records else draft.base
        draft.unknown = draft.unknown or senml_record.not_understood(record)
        says_nothing = not draft.key and not any(
            label in record for label in (BN, BT, BU, BV, BVER)
        )  # it is reported as a bad record
        if says_nothing or any(label in record for label in (N, V, VS, VB, VD, S)):
            draft.records.append(base | record)
            draft.at.append(place)
    if draft.records or draft.key or draft.unknown:
        yield draft


def _integer(value: object, label: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= KEY_MAX:
        raise PackError(f"{label} is not an integer from 0 to 2^53-1", reason="out-of-range")
    return value


def _reading(draft: _Draft) -> Reading:
    if EPOCH not in draft.key or SEQ not in draft.key:
        raise PackError("epoch and seq come together", reason="no-key")
    if any(record.get(T, 0) != 0 for record in draft.records):
        raise PackError("a numbered reading has one time: no t in it", reason="time-offset")
    if draft.unknown is not None:
        raise draft.unknown
    mono = draft.key.get(MONO)
    if not draft.records:
        raise PackError("a reading without a point", reason="points")
    if len({senml_record.names(record)[0] for record in draft.records}) > 1:
        raise PackError("a reading names two devices", reason="bad-name")
    sample = _sample(draft, range(len(draft.records)))
    return Reading(
        device=sample.device,
        time_us=sample.time_us,
        mono_us=None if mono is None else _integer(mono, MONO),
        points=sample.points,
        epoch=_integer(draft.key[EPOCH], EPOCH),
        seq=_integer(draft.key[SEQ], SEQ),
    )


def _groups(draft: _Draft) -> Iterable[list[int]]:
    """Return which records of a draft are one reading: those of one device and time."""
    groups: dict[object, list[int]] = {}
    for place, record in enumerate(draft.records):
        key: object = place
        with contextlib.suppress(PackError):  # which is then one of its own, and judged as such
            key = (senml_record.names(record)[0], senml_record.time_us(record))
        groups.setdefault(key, []).append(place)
    return groups.values()


def _sample(draft: _Draft, places: Sequence[int]) -> Sample:
    records = [draft.records[place] for place in places]
    points = tuple(map(senml_record.point, records))
    time_us, is_absolute = senml_record.time_us(records[0])
    return Sample(
        device=senml_record.names(records[0])[0],
        time_us=time_us if is_absolute else None,
        offset_us=0 if is_absolute else time_us,
        points=points,
    )


def _bad(draft: _Draft, error: PackError) -> BadReading:
    def key(label: str) -> int | None:
        value = draft.key.get(label)
        ok = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= KEY_MAX
        return value if ok else None

    prefix = draft.base.get(BN)
    device = prefix.rpartition("/")[0] if isinstance(prefix, str) else ""
    return BadReading(
        device=device, epoch=key(EPOCH), seq=key(SEQ), reason=error.reason, text=error.what
    )
