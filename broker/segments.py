"""Segments: the log's rows, each one group of runs, verbatim, with what is needed to read them.

A run is: header, publisher, client id, receivers (session, first ordinal, options, subscription
identifiers), packets. Nothing in it refers to anything outside the segment but session numbers.
In front stands a checksum of it all, so that nothing is derived from bytes that were changed; a
segment of a former version has none and begins with its first run.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType

from plantroom.broker.errors import PacketError
from plantroom.broker.packets import V5, V311, Publish
from plantroom.broker.properties import Property
from plantroom.broker.runs import Origin, Receiver, Run, parse
from plantroom.broker.tree import Grant
from plantroom.wire.errors import StorageCorruptError

# version, flags, publisher bytes, client id bytes, receivers, their bytes, packets, data bytes,
# at_us, session
_HEADER = struct.Struct(">BBHHIIIIqQ")
# session, first ordinal, options, number of subscription identifiers
_RECEIVER = struct.Struct(">QQBH")
_SID = struct.Struct(">Q")
_SEAL = struct.Struct(">BI")  # what no version of MQTT is, CRC-32
_SEALED = 0x53
_TAPPED, _COPYABLE, _RETAINED = 1, 2, 4
_QOS_SHIFT = 4
_AS_PUBLISHED = 4
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True, kw_only=True)  # not frozen: that would be most of what one costs
class Arrived:
    """A message on a tapped topic, as it came in."""

    topic: str
    payload: bytes
    qos: int
    dup: bool
    packet_id: int
    spiffe_id: str
    client_id: str
    session: int
    content_type: str | None = None
    user: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A durable session for which a run was stored."""

    sid: int
    ordinal: int
    qos: int
    grant: Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as read back."""

    origin: Origin
    version: int
    qos: int
    count: int
    at_us: int
    tapped: bool
    copyable: bool
    retained: bool
    waiting: tuple[Waiting, ...]
    data: bytes


def pack(runs: Iterable[Run]) -> bytes:
    """Encode runs as one segment."""
    parts: list[bytes] = []
    for run in runs:
        publisher, client_id = run.origin.publisher.encode(), run.origin.client_id.encode()
        waiting, receivers = 0, b""
        if run.receivers and not run.volatile:
            stored = [entry for entry in run.receivers if entry[0].durable and entry[2]]
            waiting, receivers = len(stored), _pack_receivers(stored)
        flags = (
            (_TAPPED if run.tapped else 0)
            | (_COPYABLE if run.copyable else 0)
            | (_RETAINED if run.retained else 0)
            | run.qos << _QOS_SHIFT
        )
        parts += (
            _HEADER.pack(
                run.version,
                flags,
                len(publisher),
                len(client_id),
                waiting,
                len(receivers),
                run.count,
                len(run.data),
                run.at_us,
                run.origin.sid,
            ),
            publisher,
            client_id,
            receivers,
            run.data,
        )
    if not parts:
        return b""
    whole = b"".join(parts)
    return _SEAL.pack(_SEALED, zlib.crc32(whole)) + whole


def _pack_receivers(waiting: Iterable[tuple[Receiver, Grant, int, int]]) -> bytes:
    parts: list[bytes] = []
    for receiver, grant, qos, ordinal in waiting:
        options = qos | (_AS_PUBLISHED if grant.retain_as_published else 0)
        numbers = grant.identifiers
        parts.append(_RECEIVER.pack(receiver.sid, ordinal, options, len(numbers)))
        parts += (number.to_bytes(4, "big") for number in numbers)
    return b"".join(parts)


def unpack(data: bytes, *, only: int | None = None) -> Iterator[StoredRun]:
    """Read a segment back; `only` what a certain session waits for.

    Raises:
        StorageCorruptError: when it is cut short or inconsistent; of the whole one also when its
            checksum is another.
    """
    position = 0
    try:
        if data[:1] == bytes([_SEALED]):
            _, crc = _SEAL.unpack_from(data)
            position = _SEAL.size
            if only is None and zlib.crc32(memoryview(data)[position:]) != crc:
                raise StorageCorruptError("segment is damaged: its checksum is another")
        while position < len(data):
            run, position = _unpack_one(data, position, only)
            if run is not None:
                yield run
    except (struct.error, UnicodeDecodeError) as error:
        raise StorageCorruptError(f"segment is damaged at byte {position}: {error}") from error


def _unpack_one(data: bytes, position: int, only: int | None) -> tuple[StoredRun | None, int]:
    version, flags, publisher_bytes, client_bytes, receivers, block, count, length, at_us, sid = (
        _HEADER.unpack_from(data, position)
    )
    publisher_at = position + _HEADER.size
    client_at = publisher_at + publisher_bytes
    receivers_at = client_at + client_bytes
    data_at = receivers_at + block
    end = data_at + length
    if end > len(data) or count == 0 or version not in {V311, V5}:
        raise StorageCorruptError(f"segment is damaged at byte {position}: it is cut short")
    if only is not None and data.find(_SID.pack(only), receivers_at, data_at) < 0:
        return None, end
    stored = StoredRun(
        origin=Origin(
            sid, data[publisher_at:client_at].decode(), data[client_at:receivers_at].decode()
        ),
        version=version,
        qos=flags >> _QOS_SHIFT & 3,
        count=count,
        at_us=at_us,
        tapped=bool(flags & _TAPPED),
        copyable=bool(flags & _COPYABLE),
        retained=bool(flags & _RETAINED),
        waiting=tuple(_waiting(data, receivers_at, data_at, receivers, only)),
        data=data[data_at:end],
    )
    return stored, end


def _waiting(data: bytes, at: int, end: int, receivers: int, only: int | None) -> Iterator[Waiting]:
    if only is not None and end - at == receivers * _RECEIVER.size:  # no identifiers: search
        key = _SID.pack(only)
        found = data.find(key, at, end)
        while found >= 0:
            if (found - at) % _RECEIVER.size == 0:
                yield _unpack_receiver(data, found)[0]
            found = data.find(key, found + 1, end)
        return
    for _ in range(receivers):
        entry, at = _unpack_receiver(data, at)
        if only is None or entry.sid == only:
            yield entry


def _unpack_receiver(data: bytes, position: int) -> tuple[Waiting, int]:
    sid, ordinal, options, numbers = _RECEIVER.unpack_from(data, position)
    position += _RECEIVER.size
    end = position + 4 * numbers
    grant = Grant(
        qos=options & 3,
        retain_as_published=bool(options & _AS_PUBLISHED),
        identifiers=struct.unpack_from(f">{numbers}I", data, position),
    )
    return Waiting(sid=sid, ordinal=ordinal, qos=options & 3, grant=grant), end


def check(runs: Iterable[StoredRun]) -> None:
    """Parse every packet.

    Raises:
        StorageCorruptError: when one is damaged.
    """
    for run in runs:
        if len(_parse(run)) != run.count:
            raise StorageCorruptError("segment holds another number of packets than it says")


def _parse(run: StoredRun) -> list[Publish]:
    try:
        return parse(run.data, run.version)
    except (PacketError, IndexError) as error:
        raise StorageCorruptError(f"segment holds a damaged packet: {error}") from error


def left_of(data: bytes) -> list[Arrived]:
    """Give the tapped messages that can still be read of a segment, whatever its checksum says."""
    found: list[Arrived] = []
    with suppress(StorageCorruptError):
        found.extend(arrivals(data[_SEAL.size :] if data[:1] == bytes([_SEALED]) else data))
    return found


def arrivals(data: bytes, skip: int = 0) -> Iterator[Arrived]:
    """Give the tapped messages of a segment, but for the first ones, in the order they came in.

    Raises:
        StorageCorruptError: when the segment is damaged.
    """
    for run in unpack(data):
        if not run.tapped:
            continue
        if skip >= run.count:
            skip -= run.count
            continue
        messages = _parse(run)[skip:]
        skip = 0
        for message in messages:
            properties = message.properties
            yield Arrived(
                topic=message.topic,
                payload=message.payload,
                qos=message.qos,
                dup=message.dup,
                packet_id=message.packet_id,
                spiffe_id=run.origin.publisher,
                client_id=run.origin.client_id,
                session=run.origin.sid,
                content_type=properties.get(Property.CONTENT_TYPE) if properties else None,
                user=dict(properties.get(Property.USER, ())) if properties else _NOTHING,
            )
