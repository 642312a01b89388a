"""Read HTTP/2 header blocks: as much as a gRPC client needs to learn how a call ended.

Source: RFC 7541, with its static table (Appendix A) and Huffman code (Appendix B).
"""

from plantroom.wire.errors import UnreachableError

TABLE_BYTES_MAX = 4096
_BLOCK_BYTES_MAX = 64 * 1024
_STATIC_FIRST = (
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    *((":status", code) for code in ("200", "204", "206", "304", "400", "404", "500")),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
)
_STATIC_REST = """
    accept-language accept-ranges accept access-control-allow-origin age allow authorization
    cache-control content-disposition content-encoding content-language content-length
    content-location content-range content-type cookie date etag expect expires from host if-match
    if-modified-since if-none-match if-range if-unmodified-since last-modified link location
    max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after server
    set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate
"""
STATIC = (*_STATIC_FIRST, *((name, "") for name in _STATIC_REST.split()))
# The code is canonical: the length in bits of each of its 257 symbols says it all.
_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c"
    "060a0a0c0d06080b0a0a080b080606060505050606060606060607080f060c0a"
    "0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c"
    "1416141416161617161717171717181718181617181717171715161716171718"
    "1615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b"
    "14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a"
    "1e"
)
_END = 256


def _canonical(lengths: bytes) -> dict[tuple[int, int], int]:
    table, code, previous = {}, 0, 5
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths)):
        code <<= length - previous
        previous = length
        table[length, code] = symbol
        code += 1
    return table


_SYMBOLS = _canonical(_LENGTHS)


def _bad(what: str) -> UnreachableError:
    return UnreachableError(f"header block cannot be read: {what}")


def huffman(data: bytes) -> bytes:
    """Decode a Huffman-coded string.

    Raises:
        UnreachableError: when it is not one.
    """
    output, code, length = bytearray(), 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            code, length = code << 1 | byte >> bit & 1, length + 1
            symbol = _SYMBOLS.get((length, code))
            if symbol == _END or length > 30:
                raise _bad("its Huffman code is none")
            if symbol is not None:
                output.append(symbol)
                code = length = 0
    if length > 7 or code != (1 << length) - 1:  # RFC 7541 5.2
        raise _bad("its padding is not ones")
    return bytes(output)


class HeaderDecoder:
    """One connection's decoder: its dynamic table is what earlier blocks have put there."""

    def __init__(self) -> None:
        self._dynamic: list[tuple[str, str]] = []
        self._bytes_max = TABLE_BYTES_MAX

    def decode(self, block: bytes) -> list[tuple[str, str]]:
        """Return the header fields of a block, in order.

        Raises:
            UnreachableError: when the block breaks a rule.
        """
        if len(block) > _BLOCK_BYTES_MAX:
            raise _bad("it is too large")
        try:
            return self._decode(block)
        except IndexError:
            raise _bad("it ends early, or names a field that is not in the table") from None

    def _decode(self, block: bytes) -> list[tuple[str, str]]:
        fields, at = [], 0
        while at < len(block):
            first = block[at]
            if first & 0x80:  # RFC 7541 6.1: indexed field
                index, at = _number(block, at, 7)
                fields.append(self._field(index))
            elif first & 0xE0 == 0x20:  # RFC 7541 6.3: table size update
                self._bytes_max, at = _number(block, at, 5)
                if self._bytes_max > TABLE_BYTES_MAX:
                    raise _bad("its table is larger than allowed")
                self._trim()
            else:  # RFC 7541 6.2: literal field, kept in the table or not
                index, at = _number(block, at, 6 if first & 0x40 else 4)
                name, at = (self._field(index)[0], at) if index else _text(block, at)
                value, at = _text(block, at)
                fields.append((name, value))
                if first & 0x40:
                    self._dynamic.insert(0, (name, value))
                    self._trim()
        return fields

    def _field(self, index: int) -> tuple[str, str]:
        if index == 0:
            raise _bad("index 0 is no field")
        return STATIC[index - 1] if index <= len(STATIC) else self._dynamic[index - len(STATIC) - 1]

    def _trim(self) -> None:
        while self._dynamic and self._size() > self._bytes_max:
            self._dynamic.pop()

    def _size(self) -> int:
        return sum(len(name) + len(value) + 32 for name, value in self._dynamic)  # RFC 7541 4.1


def _number(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    limit = (1 << prefix) - 1
    value = block[at] & limit
    at += 1
    if value < limit:
        return value, at
    for shift in range(0, 28, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise _bad("a number is too large")


def _text(block: bytes, at: int) -> tuple[str, int]:
    coded = block[at] & 0x80
    size, at = _number(block, at, 7)
    data = block[at : at + size]
    if len(data) < size:
        raise _bad("a string ends early")
    return (huffman(data) if coded else data).decode("latin-1"), at + size
