"""What gateway and cloud say to each other, and how calls are asked and answered: CBOR, version 1.

A batch is named `(incarnation, number)` outside its compressed part, so that even an unreadable
one can be answered. Source: the delivery rules in docs/architecture.md.
"""

import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from plantroom.wire import cbor, columns, shape
from plantroom.wire.errors import EnvelopeError, PackError
from plantroom.wire.reading import Plain, Reading

VERSION = 1
ENVELOPE_BYTES_MAX = 4 * 1024 * 1024
BODY_BYTES_MAX = 32 * 1024 * 1024
CALL_BYTES_MAX = 256 * 1024
CONTENT_TYPE = "application/cbor"

Lane = Literal["live", "backfill"]
NoteKind = Literal["evicted", "quarantined", "gone", "correction"]
Author = Literal["sensor", "gateway"]
Range = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A tombstone, a quarantine, a `gone`, or a clock correction; receipted like a reading.

    `number` counts within `life`: the sensor's epoch or the gateway's incarnation. It speaks of
    `first` to `last` of (device, epoch). `offset_us` belongs to a correction: wall minus monotonic.
    """

    kind: NoteKind
    author: Author
    life: int
    number: int
    device: str
    epoch: int
    first: int
    last: int
    reason: str
    at_us: int
    offset_us: int | None = None


def note_bytes(note: Note) -> bytes:
    """Return a note's deterministic CBOR, which its hash is of."""
    return cbor.dumps(shape.to_plain(note))


def note_from(body: object) -> Note:
    """Return the note of its deterministic CBOR; the inverse of `note_bytes`.

    Raises:
        EnvelopeError: when it is none.
    """
    if not isinstance(body, bytes):
        raise EnvelopeError("a note is bytes")
    plain = cbor.loads(body, bytes_max=CALL_BYTES_MAX, error=EnvelopeError)
    note: Note = shape.from_plain(Note, plain, EnvelopeError)
    return note


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Readings and notes on their way from a gateway's queue to the cloud's store.

    `heads`: per device, the highest seq known of each epoch, so that a hole has an end.
    """

    incarnation: int
    number: int
    lane: Lane
    readings: tuple[Reading, ...] = ()
    notes: tuple[Note, ...] = ()
    heads: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range of one (device, epoch), with a reason where one is needed."""

    device: str
    epoch: int
    first: int
    last: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Ingest's answer to one batch, sent after the store's commit.

    `commit` counts the store's commits: an answer with a lower one is older. `branch` is of which
    opening of the store that commit is. `notes` are (author, life, number). An unreadable batch is
    answered with `unreadable` and nothing else.
    """

    incarnation: int
    number: int
    store_id: str
    commit: int
    stored: tuple[Span, ...] = ()
    quarantined: tuple[Span, ...] = ()
    notes: tuple[tuple[Author, int, int], ...] = ()
    unreadable: bool = False
    branch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """What one side has of one (device, epoch): the highest seq it knows, and its ranges.

    `digests` maps a segment (seq // 1000) to the sum modulo 2^256 of its readings' hashes.
    """

    device: str
    epoch: int
    highest: int
    ranges: tuple[Range, ...] = ()
    digests: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The gateway's books, at every connect and every few minutes; `number` names the answer.

    `commit` is the latest commit of `store_id` that it has heard of, `heard` the latest of each
    branch: a store that has no such one was restored from a backup, and so was one of the `former`
    stores, whose answers are ignored.
    """

    incarnation: int
    number: int
    gateway: str
    books: tuple[Book, ...] = ()
    store_id: str = ""
    commit: int = 0
    heard: Mapping[str, int] = field(default_factory=dict)
    former: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """Ingest's answer to a hello, on the receipt topic: what the store has of those books.

    `knows` is what the gateway had `heard`, and the store has found in its history.
    """

    incarnation: int
    number: int
    store_id: str
    commit: int
    books: tuple[Book, ...] = ()
    branch: str = ""
    knows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refill:
    """Holes that ingest asks a gateway for."""

    store_id: str
    commit: int
    holes: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to a capability; who asks stands in the topic, where the broker has checked it."""

    id: str
    reply_to: str
    timeout_s: float
    idempotency_key: str
    data: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a call: `data`, or `error` with its one-line text."""

    id: str
    data: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A device's birth or last will: the session's epoch, and the highest seq of each epoch.

    A will whose epoch is not that of the birth on record is stale.
    """

    online: bool
    epoch: int
    heads: Mapping[int, int] = field(default_factory=dict)
    at_us: int | None = None
    info: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """A sensor's notes on their way to the gateway, on its telemetry topic (a map, not a pack)."""

    notes: tuple[Note, ...]


Envelope = Batch | Receipt | Hello | Welcome | Refill | Call | Reply | Presence | Notes
_KINDS: dict[str, type[Any]] = {kind.__name__.lower(): kind for kind in get_args(Envelope)}


def encode(envelope: Envelope) -> bytes:
    """Encode; `decode` gives an equal envelope back."""
    name = type(envelope).__name__.lower()
    if isinstance(envelope, Batch):
        return encode_batch(envelope, [reading.plain() for reading in envelope.readings])
    return cbor.dumps({"v": VERSION, "k": name} | shape.to_plain(envelope))


def kind_of(data: bytes) -> str:
    """Return the kind that an envelope says it is, reading no further."""
    return str(_open(data)["k"])


def decode(data: bytes, *wanted: type[Envelope]) -> Any:
    """Decode an envelope of one of the `wanted` kinds.

    Raises:
        EnvelopeError: when it is none of them, or breaks a rule; the message names the field.
    """
    table = _open(data)
    kind = _KINDS[table.pop("k")]
    table.pop("v")
    if kind not in wanted:
        raise EnvelopeError(f"a {kind.__name__} is not wanted here")
    if kind is Batch:
        return _batch_in(table)
    return shape.from_plain(kind, table, EnvelopeError)


def batch_name(data: bytes) -> tuple[int, int]:
    """Return `(incarnation, number)` of a batch, also when its body cannot be read."""
    table = _open(data)
    name = {key: table.get(key) for key in ("incarnation", "number")}
    made = shape.from_plain(_BatchName, name, EnvelopeError)
    return made.incarnation, made.number


def _open(data: bytes) -> dict[str, Any]:
    table = cbor.loads(data, bytes_max=ENVELOPE_BYTES_MAX, error=EnvelopeError)
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise EnvelopeError("an envelope is a map with text keys")
    if table.get("v") != VERSION:
        raise EnvelopeError(f"version is {table.get('v')!r:.20}, {VERSION} is known")
    if not isinstance(table.get("k"), str) or table["k"] not in _KINDS:
        raise EnvelopeError(f"kind is {table.get('k')!r:.40}")
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class _BatchName:
    incarnation: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _BatchOuter:
    """A batch as it travels: its name in the open, the rest compressed."""

    incarnation: int
    number: int
    lane: Lane
    body: bytes
    codec: Literal["lzma"] = "lzma"  # left out while it is this one; another is refused by name


@dataclass(frozen=True, slots=True, kw_only=True)
class _BatchBody:
    rows: Any
    notes: tuple[Note, ...] = ()
    heads: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


# Measured on two recorded rooms (6 and 29 points), 500 readings a batch, body bytes a reading: 6.7
# and 53.8 with these, 6.8 and 54.8 with lc and pb at their defaults, 7.3 and 60.2 with zlib at 9,
# 8.1 and 61.9 with bz2.
_LZMA_FILTERS = [
    {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}
]
_LZMA_DICT_MIN = 4096  # of the format


def encode_batch(batch: Batch, readings: Sequence[Plain]) -> bytes:
    """Encode a batch with these readings, which are plain values already, in place of its own."""
    body = {"rows": columns.encode_plain(readings)}
    body |= shape.to_plain(_BatchBody(rows=(), notes=batch.notes, heads=batch.heads)) | body
    outer = _BatchOuter(
        incarnation=batch.incarnation,
        number=batch.number,
        lane=batch.lane,
        body=_compressed(cbor.dumps(body)),
    )
    return cbor.dumps({"v": VERSION, "k": "batch"} | shape.to_plain(outer))


def _compressed(body: bytes) -> bytes:
    """Compress with a dictionary that just holds the body, which gives the same bytes.

    An encoder takes 12 times its dictionary, whatever it compresses; at 1 MiB that stayed with
    every thread that had ever packed a batch.
    """
    (full,) = _LZMA_FILTERS
    holds = max(_LZMA_DICT_MIN, 1 << (len(body) - 1).bit_length())
    fitting = full | {"dict_size": min(holds, full["dict_size"])}
    return lzma.compress(body, lzma.FORMAT_RAW, filters=[fitting])


def _batch_in(table: dict[str, Any]) -> Batch:
    outer = shape.from_plain(_BatchOuter, table, EnvelopeError)
    try:
        inflater = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA_FILTERS)
        plain = inflater.decompress(outer.body, BODY_BYTES_MAX)
    except lzma.LZMAError as error:
        raise EnvelopeError(f"body cannot be decompressed: {error}") from error
    if not inflater.eof or inflater.unused_data:
        raise EnvelopeError(f"body is not whole, or beyond {BODY_BYTES_MAX} bytes")
    raw = cbor.loads(plain, bytes_max=BODY_BYTES_MAX, error=EnvelopeError)
    body = shape.from_plain(_BatchBody, raw, EnvelopeError)
    try:
        readings = columns.decode(body.rows)
    except PackError as error:
        raise EnvelopeError(f"rows: {error}") from error
    return Batch(
        incarnation=outer.incarnation,
        number=outer.number,
        lane=outer.lane,
        readings=readings,
        notes=body.notes,
        heads=body.heads,
    )
