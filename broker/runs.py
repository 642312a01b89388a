"""Runs: consecutive PUBLISH packets of one session with the same receivers, kept as they arrived.

An object for each message would be the broker's largest cost, so there is none until a receiver
needs the message in another form than the one it came in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from plantroom.broker import decode, encode
from plantroom.broker.errors import PacketError
from plantroom.broker.packets import V5, Publish
from plantroom.broker.properties import Property
from plantroom.broker.tree import Grant, Match
from plantroom.wire.errors import StorageCorruptError

US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True)
class Origin:
    """Who published: session number (0: the broker itself), SPIFFE ID, client id."""

    sid: int
    publisher: str
    client_id: str


class Receiver(Protocol):
    """A session or a watcher."""

    @property
    def sid(self) -> int:
        """Number of the session, 0 for a watcher."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it is connected now."""
        ...

    @property
    def durable(self) -> bool:
        """Whether it gets what was published while it was away."""
        ...

    def reserve(self, count: int) -> int:
        """Take the next `count` ordinals, return the first."""
        ...

    def offer(self, run: "Run", grant: Grant, qos: int, ordinal: int) -> None:
        """Take a run that is committed."""
        ...


class Run:
    """`count` packets in `data`, verbatim and without topic aliases.

    `offsets` are the places of their packet ids, known only for a `copyable` run: all packets
    QoS 1 without DUP and RETAIN, and without properties that change on the way.
    `receivers` are filled when the group is closed: receiver, grant, effective QoS, first ordinal.
    """

    __slots__ = (
        "_messages",
        "at_us",
        "copyable",
        "count",
        "data",
        "match",
        "offsets",
        "origin",
        "qos",
        "receivers",
        "retained",
        "tapped",
        "version",
        "volatile",
    )

    def __init__(  # noqa: PLR0913 -- a record
        self,
        origin: Origin,
        data: bytes,
        *,
        version: int,
        match: Match[Receiver],
        at_us: int,
        qos: int = 1,
        count: int = 1,
        offsets: Sequence[int] = (),
        copyable: bool = False,
        tapped: bool = False,
        volatile: bool = False,
        retained: bool = False,
    ) -> None:
        self.origin = origin
        self.data = data
        self.version = version
        self.match = match
        self.at_us = at_us
        self.qos = qos
        self.count = count
        self.offsets = offsets
        self.copyable = copyable
        self.tapped = tapped
        self.volatile = volatile
        self.retained = (
            retained  # sent because of a new subscription: RETAIN is set 3.1.1 [MQTT-3.3.1-8]
        )
        self.receivers: list[tuple[Receiver, Grant, int, int]] = []
        self._messages: list[Publish] | None = None

    def messages(self) -> list[Publish]:
        """Return the packets, parsed."""
        if self._messages is None:
            self._messages = parse(self.data, self.version)
        return self._messages

    def skip(self, position: int, count: int) -> int:
        """Return the position `count` packets behind `position`."""
        for _ in range(count):
            _, position = decode.remaining(self.data, position)
        return position


def parse(data: bytes, version: int) -> list[Publish]:
    """Parse consecutive PUBLISH packets that were checked when they came in."""
    found = []
    position = 0
    while position < len(data):
        start, end = decode.remaining(data, position)
        found.append(decode.publish(data[position], data, start, end, version))
        position = end
    return found


def parse_one(data: bytes) -> Publish:
    """Parse a stored packet, as `canonical` made it in MQTT 5.

    Raises:
        StorageCorruptError: when it is damaged.
    """
    try:
        (message,) = parse(data, V5)
    except (PacketError, IndexError, ValueError) as error:
        raise StorageCorruptError(f"a stored packet is damaged: {error}") from error
    return message


def locate(data: bytes) -> list[int]:
    """Return where the packet ids are in consecutive PUBLISH packets of QoS 1."""
    offsets, position = [], 0
    while position < len(data):
        start, position = decode.remaining(data, position)
        offsets.append(start + 2 + int.from_bytes(data[start : start + 2], "big"))
    return offsets


def canonical(message: Publish, version: int) -> bytes:
    """Encode a message as runs hold it: topic spelled out, no alias."""
    if Property.TOPIC_ALIAS in message.properties:
        rest = {k: v for k, v in message.properties.items() if k != Property.TOPIC_ALIAS}
        message = replace(message, properties=rest)
    return encode.publish(message, version)


# [MQTT-4.3.3-13]
def expired(message: Publish, age_us: int) -> bool:
    """Say whether a message may no longer be sent [MQTT-3.3.2-5]."""
    expiry_s = message.properties.get(Property.MESSAGE_EXPIRY)
    return expiry_s is not None and age_us >= expiry_s * US_PER_S
