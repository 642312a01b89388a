"""What a chip and its issuer say to each other, as JSON; bytes are hex.

`POST /attest` takes a claim and gives a challenge, `POST /attested` takes a proof and gives an
SVID. The device writes and reads the same fields in `plantroom.certs.attestor_tpm`.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from plantroom.certs import tpm_wire
from plantroom.wire.errors import IdentityError

_PCR_NAMES: Final = frozenset(map(str, tpm_wire.PCRS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a chip shows of itself: its EK's certificate (may be missing) and its two keys."""

    certificate: bytes
    ek_public: bytes
    ak_public: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What the chip has to answer: a secret sealed to it, a nonce, and registers to quote."""

    nonce: bytes
    credential: bytes
    seed: bytes
    pcrs: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The answer; `csr` is the CSR exactly as it was sent."""

    nonce: bytes
    secret: bytes
    quote: bytes
    signature: bytes
    pcrs: dict[int, bytes]
    csr: bytes


def challenge_json(challenge: Challenge) -> bytes:
    """Return a challenge as it is sent."""
    table = {
        "nonce": challenge.nonce.hex(),
        "credential": challenge.credential.hex(),
        "seed": challenge.seed.hex(),
        "pcrs": list(challenge.pcrs),
    }
    return json.dumps(table).encode()


def read_claim(table: dict[str, Any]) -> Claim:
    """Read what a chip shows of itself; all in hex.

    Raises:
        IdentityError: with reason `bad-request`.
    """
    certificate, ek_public, ak_public = (
        _bytes(table, name) for name in ("ek_certificate", "ek_public", "ak_public")
    )
    return Claim(certificate=certificate, ek_public=ek_public, ak_public=ak_public)


def read_proof(table: dict[str, Any]) -> Proof:
    """Read an answer to a challenge; all in hex, the CSR as PEM.

    Raises:
        IdentityError: with reason `bad-request`.
    """
    nonce, secret, quote, signature = (
        _bytes(table, name) for name in ("nonce", "secret", "quote", "signature")
    )
    pcrs, csr = table.get("pcrs"), table.get("csr")
    if not isinstance(pcrs, dict) or not isinstance(csr, str):
        raise IdentityError("body is not a map with pcrs and csr", reason="bad-request")
    if not all(pcr in _PCR_NAMES for pcr in pcrs):
        raise IdentityError("a register has no such number", reason="bad-request")
    values = {int(pcr): _bytes(pcrs, pcr) for pcr in pcrs}
    return Proof(
        nonce=nonce,
        secret=secret,
        quote=quote,
        signature=signature,
        pcrs=values,
        csr=csr.encode(),
    )


def _bytes(table: dict[str, Any], name: str) -> bytes:
    try:
        return bytes.fromhex(table[name])
    except (KeyError, TypeError, ValueError) as error:
        raise IdentityError(f"{name} is not hex", reason="bad-request") from error
