"""Packets as values: what a client may send, parsed; see `decode` and `encode` for their bytes."""

from dataclasses import dataclass, field

from plantroom.broker.properties import NONE, Properties

V311 = 4
V5 = 5


@dataclass(slots=True, kw_only=True)  # not frozen: that would be most of what one costs
class Publish:
    """PUBLISH, in either direction; `packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = field(default_factory=lambda: NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """CONNECT; `will` has the will's own properties."""

    version: int
    client_id: str
    clean_start: bool
    keepalive_s: int
    will: Publish | None
    properties: Properties


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""

    kind: int
    packet_id: int
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One filter of a SUBSCRIBE with its options."""

    topic_filter: str
    qos: int
    no_local: bool
    retain_as_published: bool
    retain_handling: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """SUBSCRIBE; `identifier` is 0 if there is none."""

    packet_id: int
    requests: tuple[Request, ...]
    identifier: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """UNSUBSCRIBE."""

    packet_id: int
    topic_filters: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """PINGREQ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """DISCONNECT by the client."""

    code: int
    properties: Properties


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate:
    """AUTH: known, so that it can be refused by name."""


Packet = (
    Publish | Connect | Acknowledgement | Subscribe | Unsubscribe | Ping | Disconnect | Authenticate
)
