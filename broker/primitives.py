"""The data representations of MQTT (1.5): integers, strings, binary data, variable byte integers.

Readers take `(data, position, end)` and return `(value, next position)`; what would reach beyond
`end` is malformed. Writers return bytes.
"""

from plantroom.broker.errors import MalformedError

VARINT_MAX = 268_435_455  # MQTT 1.5.5
TEXT_BYTES_MAX = 65_535


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Read a variable byte integer of at most four bytes, in its shortest form."""
    value = 0
    for shift in (0, 7, 14, 21):
        if position >= end:
            raise MalformedError("variable byte integer is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                raise MalformedError("variable byte integer is not minimal")  # [MQTT-1.5.5-1]
            return value, position
    raise MalformedError("variable byte integer is longer than four bytes")


def read_int(data: bytes, position: int, end: int, size: int) -> tuple[int, int]:
    """Read a big-endian integer of `size` bytes."""
    if position + size > end:
        raise MalformedError("integer is cut short")
    return int.from_bytes(data[position : position + size], "big"), position + size


def read_binary(data: bytes, position: int, end: int) -> tuple[bytes, int]:
    """Read a two-byte length and that many bytes."""
    start = position + 2
    if start > end:
        raise MalformedError("integer is cut short")
    stop = start + (data[position] << 8 | data[position + 1])
    if stop > end:
        raise MalformedError("field is longer than its packet")
    return data[start:stop], stop


def read_text(data: bytes, position: int, end: int) -> tuple[str, int]:
    """Read a UTF-8 string."""
    raw, position = read_binary(data, position, end)
    return text(raw), position


def text(raw: bytes) -> str:
    """Decode UTF-8 as MQTT restricts it."""
    try:
        # [MQTT-1.5.4-3]
        value = raw.decode()  # surrogates are refused: [MQTT-1.5.4-1]
    except UnicodeDecodeError as error:
        raise MalformedError("text is not UTF-8") from error
    if "\0" in value:
        raise MalformedError("text has a null character")  # [MQTT-1.5.4-2]
    return value


def varint(value: int) -> bytes:
    """Write a variable byte integer."""
    if value < 128:
        return bytes((value,))
    if value > VARINT_MAX:
        raise MalformedError(f"{value} is too large for a variable byte integer")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


# [MQTT-4.7.3-3]
def binary(value: bytes) -> bytes:
    """Write binary data with its length."""
    if len(value) > TEXT_BYTES_MAX:
        raise MalformedError(f"field of {len(value)} bytes, {TEXT_BYTES_MAX} are possible")
    return len(value).to_bytes(2, "big") + value
