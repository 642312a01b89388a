"""The small DER reader against `cryptography`, and against anything at all."""

import datetime as dt
import ssl
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import certificates, der
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Svid
from plantroom.wire.spiffe import SpiffeId

Forge = Callable[..., Svid]


def test_facts_of_an_svid_are_those_that_cryptography_reads(
    building: Authority, sensor_id: SpiffeId
) -> None:
    svid = issue_svid(building, sensor_id, ttl_s=600, dns=("a.b",), ips=("::1",))
    data = ssl.PEM_cert_to_DER_cert(svid.chain_pem.decode())
    facts, known = der.certificate_facts(data), x509.load_der_x509_certificate(data)
    assert facts.serial == known.serial_number
    assert facts.not_before_s == known.not_valid_before_utc.timestamp()
    assert facts.not_after_s == known.not_valid_after_utc.timestamp()
    assert facts.uris == (str(sensor_id),)
    assert facts.public_key == known.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def reason(data: bytes) -> str | None:
    try:
        der.certificate_facts(data)
    except IdentityError as error:
        return error.reason
    return None


def test_two_uris_and_none_are_read_as_they_are(building: Authority, forge: Forge) -> None:
    for uris in (("spiffe://a.b/c", "spiffe://a.b/d"), ()):
        data = ssl.PEM_cert_to_DER_cert(forge(building, *uris).chain_pem.decode())
        assert der.certificate_facts(data).uris == uris


@given(st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2200, 1, 1)))  # noqa: DTZ001 -- made UTC
def test_times_are_read_in_both_forms(moment: dt.datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=dt.UTC)
    long = moment.strftime("%Y%m%d%H%M%SZ").encode()
    assert der._time(der.GENERALIZED_TIME, long) == moment.timestamp()
    if moment.year < 2050:
        assert der._time(der.UTC_TIME, long[2:]) == moment.timestamp()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_certificate_or_a_named_error(data: bytes) -> None:
    assert reason(data) in {None, "bad-certificate"}


@given(cut=st.integers(0, 400), flip=st.integers(0, 400), bit=st.integers(0, 7))
def test_a_damaged_certificate_is_read_or_a_named_error(cut: int, flip: int, bit: int) -> None:
    data = bytearray(SAMPLE)
    data[flip % len(data)] ^= 1 << bit
    for damaged in (bytes(data), SAMPLE[:cut]):
        assert reason(damaged) in {None, "bad-certificate"}


def _sample() -> bytes:
    root = certificates.self_signed("a.b", certificates.new_key(), now_s=1_800_000_000)
    return root.public_bytes(Encoding.DER)


SAMPLE = _sample()


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_split_undoes_concatenation(values: list[bytes]) -> None:
    parts = [der.write(der.OCTET_STRING, value) for value in values]
    assert der.split(b"".join(parts)) == parts


@pytest.mark.parametrize(
    "data", [b"\x30\x80", b"\x30\x81\x05" + b"\0" * 5, b"\x30\x85" + b"\1" * 5]
)
def test_lengths_that_are_not_der_are_refused(data: bytes) -> None:
    with pytest.raises(IdentityError):
        der.read(data)


@pytest.mark.parametrize(("serial", "text"), [(0xA, "0A"), (0xABC, "0ABC"), (0xABCD, "ABCD")])
def test_serials_are_written_as_openssl_does(serial: int, text: str) -> None:
    assert der.serial_text(serial) == text
