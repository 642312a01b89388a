"""Whose chip it is, and how it started: each lie is refused with its own reason."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import attestation, tpm_wire
from plantroom.certs.attest_store import EK, AttestStore
from plantroom.certs.attestation import CHALLENGE_S, Attestation
from plantroom.certs.registry import Registry
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError, IdentityError
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.chip import Chip, Maker, ecc_public

CSR = b"a CSR"
NOBODY: frozenset[str] = frozenset()


class Ticking:
    """A clock whose running time a test sets."""

    def __init__(self) -> None:
        self.running_us = 1_000_000

    def wall_us(self) -> int:
        return SystemClock().wall_us()

    def monotonic_us(self) -> int:
        return self.running_us


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker()


@pytest.fixture
def chip(maker: Maker) -> Chip:
    chip = Chip()
    chip.certify(maker)
    return chip


@pytest.fixture
def ticking() -> Ticking:
    return Ticking()


@pytest.fixture
def attests(registry: Registry, maker: Maker, ticking: Ticking) -> Iterator[Attestation]:
    store = AttestStore(registry.path)
    yield Attestation(registry, store, clock=ticking, authorities=[maker.certificate])
    store.close()


@pytest.fixture
def known(registry: Registry, chip: Chip, sensor_id: SpiffeId) -> SpiffeId:
    registry.create(sensor_id, selectors=(f"tpm:pub_hash:{chip.fingerprint}",))
    return sensor_id


def reason(ask: Callable[..., object], *arguments: Any, **others: Any) -> str:
    with pytest.raises(IdentityError) as caught:
        ask(*arguments, **others)
    return caught.value.reason


def test_a_chip_with_an_entry_is_the_device_of_that_entry(
    attests: Attestation, chip: Chip, known: SpiffeId
) -> None:
    for _ in range(2):  # and again at every renewal
        challenge = attests.challenge(chip.claim(), peer="p")
        entry = attests.judge(chip.prove(challenge, CSR), claims=frozenset({str(known)}))
        assert entry.spiffe_id == known


def test_each_lie_of_an_answer_is_refused_with_its_own_reason(
    attests: Attestation, chip: Chip, known: SpiffeId
) -> None:
    stranger = Chip()
    moved = dict(chip.registers) | {7: b"\1" * 32}

    def told(claims: frozenset[str] = NOBODY, **lies: Any) -> str:
        challenge = attests.challenge(chip.claim(), peer="p")
        return reason(attests.judge, chip.prove(challenge, CSR, **lies), claims=claims)

    def by(other: Chip) -> str:
        challenge = attests.challenge(chip.claim(), peer="p")
        quote, signature = other.quote(bytes(32), challenge.pcrs)
        return reason(
            attests.judge,
            chip.prove(challenge, CSR, quote=quote, signature=signature),
            claims=NOBODY,
        )

    assert told(secret=bytes(32)) == "ak-name"
    assert told(csr=b"another CSR") == "quote-nonce"
    assert told(pcrs={pcr: moved[pcr] for pcr in range(8)}) == "quote-pcrs"
    assert told(pcrs={}) == "quote-pcrs"
    assert told(signature=b"\0") == "tpm-structure"
    assert by(stranger) == "quote-signature"
    assert by(chip) == "quote-nonce"
    assert told(claims=frozenset({"spiffe://building-1.smart.local/agent/gateway"})) == "wrong-id"
    assert known


def test_a_chip_that_quotes_other_registers_is_refused(
    attests: Attestation, chip: Chip, known: SpiffeId
) -> None:
    import hashlib

    challenge = attests.challenge(chip.claim(), peer="p")
    extra = hashlib.sha256(challenge.nonce + CSR).digest()
    quote, signature = chip.quote(extra, (0,))
    proof = chip.prove(
        challenge, CSR, quote=quote, signature=signature, pcrs={0: chip.registers[0]}
    )
    assert reason(attests.judge, proof, claims=NOBODY) == "quote-pcrs"
    assert known


def test_a_nonce_serves_once_and_for_a_minute(
    attests: Attestation, chip: Chip, known: SpiffeId, ticking: Ticking
) -> None:
    challenge = attests.challenge(chip.claim(), peer="p")
    proof = chip.prove(challenge, CSR)
    assert attests.judge(proof, claims=NOBODY).spiffe_id == known
    assert reason(attests.judge, proof, claims=NOBODY) == "nonce-used"
    wrong = chip.prove(attests.challenge(chip.claim(), peer="p"), CSR, secret=b"")
    assert reason(attests.judge, wrong, claims=NOBODY) == "ak-name"
    assert reason(attests.judge, wrong, claims=NOBODY) == "nonce-used"  # a guess uses it up too
    late = chip.prove(attests.challenge(chip.claim(), peer="p"), CSR)
    ticking.running_us += CHALLENGE_S * 1_000_000 + 1
    assert reason(attests.judge, late, claims=NOBODY) == "nonce-expired"
    stranger = chip.prove(challenge, CSR, nonce=b"made up")
    assert reason(attests.judge, stranger, claims=NOBODY) == "nonce-unknown"
    older = attests.challenge(chip.claim(), peer="p")
    attests.challenge(chip.claim(), peer="p")  # a chip has one at a time
    assert reason(attests.judge, chip.prove(older, CSR), claims=NOBODY) == "nonce-unknown"


def test_open_challenges_are_bounded(
    attests: Attestation, chip: Chip, known: SpiffeId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attestation, "CHALLENGES_MAX", 2)
    used = attests.challenge(chip.claim(), peer="p")
    attests.judge(chip.prove(used, CSR), claims=NOBODY)
    attests._pending[b"1"] = attests._pending[b"2"] = attestation._Pending(
        until_us=2_000_000, fingerprint="", maker="", ak_public=b"", secret=b""
    )
    assert reason(attests.challenge, chip.claim(), peer="p") == "busy"
    del attests._pending[b"1"]
    assert attests.challenge(chip.claim(), peer="p")
    assert known


def test_keys_that_are_not_a_chips_are_refused(
    attests: Attestation, chip: Chip, known: SpiffeId
) -> None:
    def claimed(**other: int) -> str:
        return reason(attests.challenge, chip.claim(ecc_public(chip.ak, **other)), peer="p")

    for attribute in (
        tpm_wire.RESTRICTED,
        tpm_wire.FIXED_TPM,
        tpm_wire.FIXED_PARENT,
        tpm_wire.SENSITIVE_DATA_ORIGIN,
        tpm_wire.SIGN,
    ):
        assert claimed(drop=attribute) == "ak-attributes"
    assert claimed(add=tpm_wire.DECRYPT) == "ak-attributes"
    assert known


def test_an_ek_needs_a_known_maker_or_a_place_on_the_list(
    attests: Attestation, chip: Chip, known: SpiffeId, maker: Maker
) -> None:
    def claimed() -> str:
        return reason(attests.challenge, chip.claim(), peer="p")

    chip.certificate = b""
    assert claimed() == "ek-unknown"
    chip.certify(Maker("somebody else"))
    assert claimed() == "ek-ca-unknown"
    attests.store.ek_allow(chip.fingerprint)
    assert attests.challenge(chip.claim(), peer="p")
    chip.certificate = b""
    assert attests.challenge(chip.claim(), peer="p")
    chip.certificate = maker.sign(Chip().ek.public_key())
    assert claimed() == "ek-mismatch"  # a lie stays one for who is on the list
    assert attests.store.ek_forget(chip.fingerprint)
    chip.certify(maker, start_s=-90, end_s=-30)
    assert claimed() == "ek-expired"
    chip.certificate = b"\x30\x03\x02\x01\x00"
    assert claimed() == "ek-certificate"
    assert known


def test_a_chip_without_an_entry_waits_to_be_seen(attests: Attestation, chip: Chip) -> None:
    assert reason(attests.challenge, chip.claim(), peer="10.0.0.9:1") == "no-entry"
    (waiting,) = attests.store.waiting()
    assert (waiting.kind, waiting.fingerprint, waiting.peer) == (
        EK,
        chip.fingerprint,
        "10.0.0.9:1",
    )


def test_registers_have_to_be_those_of_a_golden_set(
    attests: Attestation, chip: Chip, known: SpiffeId
) -> None:
    def attest() -> object:
        challenge = attests.challenge(chip.claim(), peer="p")
        return attests.judge(chip.prove(challenge, CSR), claims=NOBODY)

    assert attest()  # the first start is recorded
    chip.registers[7] = b"evil boot loader".ljust(32)
    assert reason(attest) == "pcr-policy"
    attests.store.accept_quoted(known)  # the operator knows of the update
    assert attest()
    chip.registers[23] = b"\1" * 32  # not one of those that count
    assert attest()


def test_an_entry_can_name_golden_set_and_maker(
    attests: Attestation, registry: Registry, chip: Chip, sensor_id: SpiffeId
) -> None:
    pub_hash = f"tpm:pub_hash:{chip.fingerprint}"

    def attest(*selectors: str) -> object:
        registry.create(sensor_id, selectors=(pub_hash, *selectors))
        challenge = attests.challenge(chip.claim(), peer="p")
        return attests.judge(chip.prove(challenge, CSR), claims=NOBODY)

    assert reason(attest, "tpm:golden:model-3") == "pcr-unknown"  # fails closed
    attests.store.golden_add("model-3", {pcr: chip.registers[pcr] for pcr in range(8)})
    assert attest("tpm:golden:model-3", "tpm:manufacturer:STMicro")
    assert reason(attest, "tpm:manufacturer:Infineon") == "selector"
    assert reason(attest, "tpm:something:else") == "selector"


def test_one_chip_may_be_several_devices_the_csr_says_which(
    attests: Attestation, registry: Registry, chip: Chip, sensor_id: SpiffeId
) -> None:
    other = SpiffeId.parse("spiffe://building-1.smart.local/agent/energy-001")
    for one in (sensor_id, other):
        registry.create(one, selectors=(f"tpm:pub_hash:{chip.fingerprint}",))
    for one in (sensor_id, other):
        challenge = attests.challenge(chip.claim(), peer="p")
        entry = attests.judge(chip.prove(challenge, CSR), claims=frozenset({str(one)}))
        assert entry.spiffe_id == one
    registry.deny(other, reason="stolen")
    challenge = attests.challenge(chip.claim(), peer="p")
    proof = chip.prove(challenge, CSR)
    assert reason(attests.judge, proof, claims=frozenset({str(other)})) == "denied"


@pytest.mark.parametrize(("ca_file", "pcrs"), [("none.pem", [0]), ("", []), ("", [24])])
def test_settings_that_cannot_be_are_named(
    tmp_path: Path, registry: Registry, ca_file: str, pcrs: list[int]
) -> None:
    place = str(tmp_path / ca_file) if ca_file else ""
    with (
        pytest.raises(ConfigError, match=r"identity\.tpm_"),
        attestation.opened(registry, ca_file=place, pcrs=pcrs, clock=SystemClock()),
    ):
        pass
