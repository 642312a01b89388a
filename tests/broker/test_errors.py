from plantroom.broker.codes import Code
from plantroom.broker.errors import LimitError, MalformedError, PacketError, ProtocolError
from plantroom.wire.errors import WireError


def test_every_error_of_the_wire_has_its_reason_code() -> None:
    found: dict[type, int] = {kind: kind("x").code for kind in (MalformedError, ProtocolError)}
    found[LimitError] = LimitError("x", limit="packet_bytes_max").code
    assert found == {
        MalformedError: Code.MALFORMED_PACKET,
        ProtocolError: Code.PROTOCOL_ERROR,
        LimitError: Code.QUOTA_EXCEEDED,
    }
    assert issubclass(PacketError, WireError)
