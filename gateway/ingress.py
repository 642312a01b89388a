"""What a telemetry message says, as plain rows for the queue: pure, no database, no clock.

A bad reading is set apart alone, by its seq; a payload that cannot be read at all is booked with
the range that its `range` user property names.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from plantroom.wire import cbor, envelope, senml, shape, topics
from plantroom.wire.envelope import Note, Notes
from plantroom.wire.errors import EnvelopeError, PackError, TopicError
from plantroom.wire.reading import KEY_MAX, TIME_US_MAX, Plain, Sample

TELEMETRY: Final = "telemetry/{device}"
UNDECODABLE: Final = "undecodable"
FOREIGN: Final = "foreign-device"
REUSE: Final = "epoch-reuse"
_BEYOND: Final = "out-of-range"
_CLAIM_SPAN_MAX: Final = senml.RECORDS_MAX
GIVEN: Final = "given"  # user property: what names a reading that came in a call
_GIVEN_MAX: Final = 2
_NAME_CHARS: Final = 64
_MAP: Final = 5  # CBOR major type


class Arrival(Protocol):
    """A message as the broker committed it (`plantroom.broker.segments.Arrived`)."""

    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def payload(self) -> bytes: ...  # noqa: D102
    @property
    def dup(self) -> bool: ...  # noqa: D102
    @property
    def packet_id(self) -> int: ...  # noqa: D102
    @property
    def session(self) -> object: ...  # noqa: D102
    @property
    def user(self) -> Mapping[str, str]: ...  # noqa: D102


class Row(NamedTuple):
    """A reading ready for the queue: its key within the device, hash, and canonical CBOR."""

    epoch: int
    seq: int
    hash: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Bad:
    """What goes to quarantine: the range as far as it is known, the reason, the raw bytes."""

    reason: str
    text: str
    raw: bytes
    epoch: int | None = None
    first: int | None = None
    last: int | None = None


@dataclass(slots=True)
class Intake:
    """Everything that one message brings for one device (a SPIFFE ID)."""

    device: str
    segment: int = 0
    rows: list[Row] = field(default_factory=list)
    samples: tuple[Sample, ...] = ()
    notes: list[Note] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    claim: tuple[int, int, int] | None = None
    reused: set[int] = field(default_factory=set)  # epochs that name two readings; by posting
    delivery: tuple[str, int, bool, bytes] | None = None
    given: tuple[bytes, ...] = ()


def device_id(trust_domain: str, device: str) -> str:
    """Return the SPIFFE ID that the device level of a topic stands for."""
    return f"spiffe://{trust_domain}/agent/{device}"


def telemetry_device(topic: str) -> str | None:
    """Return the device level of a telemetry topic, None for any other topic."""
    try:
        parsed = topics.parse(topic)
    except TopicError:
        return None
    return parsed.names[0] if parsed.pattern == TELEMETRY else None


@functools.lru_cache(maxsize=4096)
def _device_of(topic: str, trust_domain: str) -> str | None:
    level = telemetry_device(topic)
    return None if level is None else device_id(trust_domain, level)


def claim_of(user: Mapping[str, str]) -> tuple[int, int, int] | None:
    """Parse the `range` property `epoch/first/last`; None when it is absent or makes no sense."""
    said = user.get("range")
    if said is None:
        return None
    parts = said.split("/")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    if any(len(part) > 16 for part in parts):
        return None
    epoch, first, last = map(int, parts)
    if not first <= last <= KEY_MAX or epoch > KEY_MAX or last - first >= _CLAIM_SPAN_MAX:
        return None
    return epoch, first, last


def given_of(user: Mapping[str, str]) -> tuple[bytes, ...]:
    """Parse the `given` property, names in hex; empty when it is absent or makes no sense."""
    names = user.get(GIVEN, "").split()[:_GIVEN_MAX]
    if not all(len(name) == _NAME_CHARS for name in names):
        return ()
    try:
        return tuple(map(bytes.fromhex, names))
    except ValueError:
        return ()


def read(arrival: Arrival, trust_domain: str) -> Intake | None:
    """Read one message; None when its topic is not telemetry."""
    device = _device_of(arrival.topic, trust_domain)
    if device is None:
        return None
    intake = Intake(device, claim=claim_of(arrival.user))
    payload = arrival.payload
    if payload and payload[0] >> 5 == _MAP:
        _read_notes(intake, payload)
    else:
        _read_pack(intake, arrival)
    return intake


def _read_pack(intake: Intake, arrival: Arrival) -> None:
    payload = arrival.payload
    try:
        found = senml.decode_plain(payload)
    except PackError as error:
        intake.bad.append(_whole(intake, payload, UNDECODABLE, str(error)))
        return
    if isinstance(found, list):
        _take(intake, found)
        return
    _take(intake, [reading.plain() for reading in found.readings])
    for bad in found.bad:
        raw = bad.raw or payload
        intake.bad.append(Bad(bad.reason, bad.text, raw, bad.epoch, bad.seq, bad.seq))
    intake.samples = tuple(_own_samples(intake, found.samples))
    if intake.samples:
        digest = sha256(payload).digest()
        intake.delivery = (str(arrival.session), arrival.packet_id, arrival.dup, digest)
        intake.given = given_of(arrival.user)


def _take(intake: Intake, readings: Iterable[Plain]) -> None:
    """Take readings as they are hashed, those of another device apart."""
    mine, rows = intake.device, intake.rows
    for plain in readings:
        device, epoch, seq = plain[:3]
        body = cbor.dumps(plain)
        if device == mine:
            rows.append(Row(epoch, seq, sha256(body).digest(), body))
        else:
            intake.bad.append(Bad(FOREIGN, f"names {device[:200]}", body, epoch, seq, seq))


def _own_samples(intake: Intake, samples: Sequence[Sample]) -> list[Sample]:
    own = []
    for sample in samples:
        if sample.device in {"", intake.device}:
            own.append(sample)
        else:
            text = f"names {sample.device[:200]}"
            intake.bad.append(Bad(FOREIGN, text, cbor.dumps(shape.to_plain(sample))))
    return own


def _read_notes(intake: Intake, payload: bytes) -> None:
    try:
        notes: Notes = envelope.decode(payload, Notes)
    except EnvelopeError as error:
        intake.bad.append(_whole(intake, payload, UNDECODABLE, str(error)))
        return
    bad: dict[str, Bad] = {}  # one a reason: the payload is kept whole, however many are in it
    for note in notes.notes:
        if note.device != intake.device or note.author != "sensor":
            text = f"a note by {note.author} about {note.device[:200]}"
            bad.setdefault(FOREIGN, Bad(FOREIGN, text, payload))
        elif not _is_sane(note):
            bad.setdefault(_BEYOND, Bad(_BEYOND, "a note beyond its range", payload))
        else:
            intake.notes.append(note)
    intake.bad.extend(bad.values())


def _is_sane(note: Note) -> bool:
    numbers = (note.life, note.number, note.epoch, note.first, note.last)
    timed = note.kind != "correction" or abs(note.offset_us or 0) <= TIME_US_MAX
    sane = all(0 <= number <= KEY_MAX for number in numbers) and note.first <= note.last
    return sane and timed and (note.kind == "correction") == (note.offset_us is not None)


def _whole(intake: Intake, payload: bytes, reason: str, text: str) -> Bad:
    epoch, first, last = intake.claim or (None, None, None)
    return Bad(reason, text, payload, epoch, first, last)
