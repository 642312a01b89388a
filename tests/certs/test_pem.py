"""PEM in and out."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import pem
from plantroom.wire.errors import IdentityError


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=4))
def test_blocks_go_there_and_back(parts: list[bytes]) -> None:
    text = b"junk\n".join(pem.encode(pem.CERTIFICATE, part) for part in parts)
    assert pem.decode(pem.CERTIFICATE, text) == parts


@given(st.binary(min_size=1, max_size=300))
def test_pythons_ssl_reads_what_is_written(data: bytes) -> None:
    assert ssl.PEM_cert_to_DER_cert(pem.encode(pem.CERTIFICATE, data).decode()) == data


def test_other_labels_are_not_taken() -> None:
    assert pem.decode(pem.REQUEST, pem.encode(pem.CERTIFICATE, b"x")) == []


def test_a_block_that_is_not_base64_is_an_error() -> None:
    with pytest.raises(IdentityError):
        pem.decode(pem.CERTIFICATE, b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----")
