"""Header blocks: the examples of RFC 7541, and anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import hpack
from plantroom.certs.hpack import HeaderDecoder
from plantroom.wire.errors import UnreachableError

# RFC 7541 Appendix C.6: three responses on one connection, with a table of 256 bytes
RESPONSES = """
488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e
919d29ad171863c78f0b97c8e9ae82ae43d3
4883640effc1c0bf
88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7
821dd7f2e6c7b335dfdfcd5b3960d5af2708
7f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007
"""


def test_the_code_has_every_symbol_and_wastes_nothing() -> None:
    assert len(hpack._LENGTHS) == 257
    assert sum(2.0**-length for length in hpack._LENGTHS) == 1.0
    assert len(hpack.STATIC) == 61


def test_the_examples_of_the_rfc_are_read() -> None:
    decoder = HeaderDecoder()
    decoder.decode(bytes.fromhex("3fe101"))  # table size 256
    lines = RESPONSES.split()
    blocks = (lines[0] + lines[1], lines[2], "".join(lines[3:]))
    first, second, third = (decoder.decode(bytes.fromhex(text)) for text in blocks)
    date = "Mon, 21 Oct 2013 20:13:21 GMT"
    assert first == [
        (":status", "302"),
        ("cache-control", "private"),
        ("date", date),
        ("location", "https://www.example.com"),
    ]
    assert second == [(":status", "307"), *first[1:]]
    assert dict(third)["content-encoding"] == "gzip"
    assert dict(third)["set-cookie"] == "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
    assert decoder._size() <= 256


@pytest.mark.parametrize(
    "block",
    ["80", "be", "ff", "40", "0085", "3fe1ff7f", "ffffffffffffffffff", "0082ffff00", "008001"],
)
def test_blocks_that_break_a_rule_are_refused(block: str) -> None:
    with pytest.raises(UnreachableError):
        HeaderDecoder().decode(bytes.fromhex(block))


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_blocks_are_fields_or_a_named_error(blocks: list[bytes]) -> None:
    decoder = HeaderDecoder()
    try:
        for block in blocks:
            decoder.decode(block)
    except UnreachableError:
        pass
    assert decoder._size() <= hpack.TABLE_BYTES_MAX
