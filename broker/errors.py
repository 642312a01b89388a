"""What can be wrong with bytes from the network, with the reason code that says so.

WireError
└── PacketError
    ├── MalformedError      the bytes are no packet (0x81)
    ├── ProtocolError       a packet at the wrong time, or values that exclude each other (0x82)
    └── LimitError          more than this broker takes (0x93, 0x94, 0x95, 0x97)
"""

from plantroom.broker.codes import Code
from plantroom.wire.errors import WireError


class PacketError(WireError):
    """A packet breaks a rule; `code` is what MQTT 5 calls it."""

    def __init__(self, what: str, *, code: int = Code.MALFORMED_PACKET) -> None:
        super().__init__(what)
        self.code = code


class MalformedError(PacketError):
    """The bytes cannot be parsed as the specification says."""


class ProtocolError(PacketError):
    """The packet can be parsed, but may not be sent like this or now."""

    def __init__(self, what: str, *, code: int = Code.PROTOCOL_ERROR) -> None:
        super().__init__(what, code=code)


class LimitError(PacketError):
    """The packet asks for more than the broker's limits allow; `limit` is the setting's name."""

    def __init__(self, what: str, *, limit: str, code: int = Code.QUOTA_EXCEEDED) -> None:
        super().__init__(what, code=code)
        self.limit = limit
