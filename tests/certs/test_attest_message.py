import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import attest_message
from plantroom.certs.attest_message import Challenge
from plantroom.wire.errors import IdentityError

HEX = {"nonce": "aa", "secret": "bb", "quote": "cc", "signature": "dd"}
values = st.none() | st.text(max_size=6) | st.dictionaries(st.text(max_size=3), st.text(max_size=4))


def test_what_is_sent_is_what_is_meant() -> None:
    challenge = Challenge(nonce=b"\1", credential=b"\2", seed=b"\3", pcrs=(0, 7))
    assert json.loads(attest_message.challenge_json(challenge)) == {
        "nonce": "01",
        "credential": "02",
        "seed": "03",
        "pcrs": [0, 7],
    }
    claim = attest_message.read_claim(
        {"ek_certificate": "", "ek_public": "01", "ak_public": "02", "more": 1}
    )
    assert (claim.certificate, claim.ek_public, claim.ak_public) == (b"", b"\1", b"\2")
    proof = attest_message.read_proof(HEX | {"pcrs": {"7": "ff"}, "csr": "PEM"})
    assert (proof.nonce, proof.pcrs, proof.csr) == (b"\xaa", {7: b"\xff"}, b"PEM")


@pytest.mark.parametrize(
    "other",
    [
        {"nonce": "xy"},
        {"nonce": 5},
        {"pcrs": {"24": ""}},
        {"pcrs": []},
        {"pcrs": {"07": ""}},
        {"csr": None},
        {"pcrs": {"1": None}},
    ],
)
def test_what_is_no_proof_is_a_bad_request(other: dict[str, object]) -> None:
    with pytest.raises(IdentityError) as caught:
        attest_message.read_proof(HEX | {"pcrs": {}, "csr": ""} | other)
    assert caught.value.reason == "bad-request"


@given(st.dictionaries(st.sampled_from([*HEX, "pcrs", "csr", "ek_public", "ak_public"]), values))
def test_any_table_is_read_or_refused(table: dict[str, object]) -> None:
    reasons = set()
    for read in (attest_message.read_claim, attest_message.read_proof):
        try:
            read(table)
        except IdentityError as error:
            reasons.add(error.reason)
    assert reasons <= {"bad-request"}
