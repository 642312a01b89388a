"""DER, as much of it as a light process needs: write a CSR, read one's own certificate.

Nothing here decides about a peer: that is `plantroom.certs.svid`, with `cryptography`.
Source: ITU-T X.690; RFC 5280 section 4.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from plantroom.wire.errors import IdentityError

SEQUENCE, SET, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x30, 0x31, 0x02, 0x03, 0x04, 0x06
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
EXPLICIT_0, EXPLICIT_3, URI = 0xA0, 0xA3, 0x86
SUBJECT_ALT_NAME = bytes.fromhex("551d11")
CERTIFICATE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a process asks about its own certificate; `public_key` is the SPKI's DER."""

    serial: int
    not_before_s: int
    not_after_s: int
    uris: tuple[str, ...]
    public_key: bytes


def write(tag: int, *values: bytes) -> bytes:
    """Encode one element whose content is the values, one after the other."""
    value = b"".join(values)
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


def read(data: bytes, start: int = 0) -> tuple[int, int, int]:
    """Return tag, start and end of the content of the element at `start`."""
    if start + 2 > len(data):
        raise _bad("it ends early")
    tag, size, at = data[start], data[start + 1], start + 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4 or at + count > len(data):
            raise _bad("a length is not DER")
        size = int.from_bytes(data[at : at + count], "big")
        at += count
        if size < 0x80:
            raise _bad("a length is longer than it need be")
    if at + size > len(data):
        raise _bad("it ends early")
    return tag, at, at + size


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Give tag and content of each element, one after the other."""
    at = 0
    while at < len(data):
        tag, start, at = read(data, at)
        yield tag, data[start:at]


def split(data: bytes) -> list[bytes]:
    """Cut concatenated DER into its elements, headers included (SPIFFE Workload API 5.2.1)."""
    parts, at = [], 0
    while at < len(data):
        _, _, end = read(data, at)
        parts.append(data[at:end])
        at = end
    return parts


def certificate_facts(data: bytes) -> CertificateFacts:
    """Read a certificate.

    Raises:
        IdentityError: with reason `bad-certificate`.
    """
    if len(data) > CERTIFICATE_BYTES_MAX:
        raise _bad(f"it has more than {CERTIFICATE_BYTES_MAX} bytes")
    tag, start, end = read(data)
    if tag != SEQUENCE or end != len(data):
        raise _bad("it is not one SEQUENCE")
    _, signed = next(elements(data[start:end]), (0, b""))
    fields = list(elements(signed))
    if fields and fields[0][0] == EXPLICIT_0:  # version
        fields = fields[1:]
    if len(fields) < 6 or fields[0][0] != INTEGER:
        raise _bad("a field is missing")
    not_before, not_after = _validity(fields[3][1])
    return CertificateFacts(
        serial=int.from_bytes(fields[0][1], "big"),
        not_before_s=not_before,
        not_after_s=not_after,
        uris=tuple(_uris(fields[6:])),
        public_key=write(SEQUENCE, fields[5][1]),
    )


def serial_text(serial: int) -> str:
    """Write a serial the way OpenSSL and Python's `ssl` do: upper-case hex, whole bytes."""
    text = f"{serial:X}"
    return text.zfill(len(text) + len(text) % 2)


def _bad(what: str) -> IdentityError:
    return IdentityError(f"not a certificate: {what}", reason="bad-certificate")


def _validity(data: bytes) -> tuple[int, int]:
    times = [_time(tag, value) for tag, value in elements(data)]
    if len(times) != 2:
        raise _bad("its validity is not two times")
    return times[0], times[1]


def _time(tag: int, value: bytes) -> int:
    """Read `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5)."""
    digits = 14 if tag == GENERALIZED_TIME else 12
    text = value.decode("ascii", "replace")
    if tag not in {UTC_TIME, GENERALIZED_TIME} or len(text) != digits + 1 or text[-1] != "Z":
        raise _bad("a time is not of the form of RFC 5280")
    if not (text[:-1].isascii() and text[:-1].isdigit()):
        raise _bad("a time has other characters than digits")
    year = int(text[: digits - 10])
    if digits == 12:
        year += 1900 if year >= 50 else 2000
    month, day, hour, minute, second = (
        int(text[at : at + 2]) for at in range(digits - 10, digits, 2)
    )
    if not 1 <= month <= 12:
        raise _bad("a time has no such month")
    return _days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second


def _days(year: int, month: int, day: int) -> int:
    """Count the days since 1970; `calendar` would load `datetime` and `locale` for this."""
    year -= month <= 2  # the year begins in March, so that the leap day is its last
    month_days = (153 * ((month + 9) % 12) + 2) // 5
    return year * 365 + year // 4 - year // 100 + year // 400 + month_days + day - 1 - 719_468


def _uris(fields: list[tuple[int, bytes]]) -> Iterator[str]:
    for tag, wrapped in fields:
        if tag != EXPLICIT_3:
            continue
        for _, extensions in elements(wrapped):
            for _, extension in elements(extensions):
                parts = list(elements(extension))
                if parts and parts[0] == (OID, SUBJECT_ALT_NAME):
                    yield from _alternative_uris(parts[-1][1])


def _alternative_uris(data: bytes) -> Iterator[str]:
    for _, names in elements(data):
        for tag, name in elements(names):
            if tag == URI:
                yield name.decode("ascii", "replace")
