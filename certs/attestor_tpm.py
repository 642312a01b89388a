"""Attestor: a TPM 2.0 chip, asked anew for every SVID.

Both keys are made from fixed templates, so nothing has to be kept: the chip makes the same ones
each time. The endorsement key is taken from its persistent place where the maker put it there.
"""

import hashlib
from typing import Final

from plantroom.certs import enrolment_client, tpm_wire
from plantroom.certs.enrolment_client import Answer, Server
from plantroom.certs.key_helper import KeyAndRequest
from plantroom.certs.tpm import Tpm, TpmError
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import TrustBundle

_EKS: Final = {
    "rsa": (tpm_wire.RSA, tpm_wire.HANDLE_EK_RSA, tpm_wire.NV_EK_RSA),
    "ecc": (tpm_wire.ECC, tpm_wire.HANDLE_EK_ECC, tpm_wire.NV_EK_ECC),
}


class TpmAttestor:
    """The chip at `place`; `kind` says which of its endorsement keys: rsa or ecc."""

    every_time = True

    def __init__(self, place: str, *, kind: str = "rsa") -> None:
        self._place = place
        self._kind, self._handle, self._index = _EKS[kind]

    def ready(self) -> bool:
        """Say that a chip always has a proof."""
        return True

    def root_sha256(self) -> str:
        """Return nothing: a chip knows no roots."""
        return ""

    def done(self) -> None:
        """Keep everything."""

    def enrol(self, server: Server, trust: TrustBundle, pending: KeyAndRequest) -> Answer:
        """Show the chip's keys, then answer the challenge with secret, quote and CSR.

        Raises:
            RefusedError: with the server's reason.
            UnreachableError: when server or chip does not answer.
            StorageError: when the chip refuses a command.
        """
        with Tpm(self._place) as tpm:
            ek, ek_public = self._endorsement(tpm)
            ak, ak_public = tpm.create_primary(tpm_wire.ak_template())
            claim = {
                "ek_certificate": self._certificate(tpm).hex(),
                "ek_public": ek_public.hex(),
                "ak_public": ak_public.hex(),
            }
            challenge = enrolment_client.post(server, trust, "/attest", claim)
            proof = _answer(tpm, ak, ek, challenge, pending.csr_pem)
            for handle in {ak, ek} - {self._handle}:
                tpm.flush(handle)
        return enrolment_client.answer_of(
            server, enrolment_client.post(server, trust, "/attested", proof)
        )

    def fingerprint(self) -> str:
        """Return the selector by which an entry names this chip."""
        with Tpm(self._place) as tpm:
            ek, public = self._endorsement(tpm)
            if ek != self._handle:
                tpm.flush(ek)
        return f"tpm:pub_hash:{tpm_wire.spki_sha256(public)}"

    def _endorsement(self, tpm: Tpm) -> tuple[int, bytes]:
        try:
            return self._handle, tpm.read_public(self._handle)
        except TpmError:  # nothing was put there: the chip makes it again from its seed
            return tpm.create_primary(tpm_wire.ek_template(self._kind))

    def _certificate(self, tpm: Tpm) -> bytes:
        try:
            return tpm.nv_read(self._index)
        except TpmError:  # none was stored: the issuer may have the key on its list
            return b""


def _answer(tpm: Tpm, ak: int, ek: int, challenge: object, csr_pem: bytes) -> dict[str, object]:
    try:
        nonce, credential, seed = (
            bytes.fromhex(challenge[name])  # type: ignore[index]
            for name in ("nonce", "credential", "seed")
        )
        pcrs = tuple(sorted({int(pcr) for pcr in challenge["pcrs"]}))  # type: ignore[index]
    except (TypeError, KeyError, ValueError) as error:
        raise IdentityError("challenge is not one", reason="bad-answer") from error
    if not pcrs or not set(pcrs) <= set(tpm_wire.PCRS):
        raise IdentityError("challenge asks for no such registers", reason="bad-answer")
    secret = tpm.activate_credential(ak, ek, credential, seed)
    said, signature = tpm.quote(ak, hashlib.sha256(nonce + csr_pem).digest(), pcrs)
    return {
        "nonce": nonce.hex(),
        "secret": secret.hex(),
        "quote": said.hex(),
        "signature": signature.hex(),
        "pcrs": {str(pcr): tpm.pcr_read(pcr).hex() for pcr in pcrs},
        "csr": csr_pem.decode(),
    }
