"""The attestor that a configuration names; what a chip needs is loaded only where there is one."""

from pathlib import Path

from plantroom.certs.attestor import Attestor
from plantroom.certs.attestor_token import JoinToken
from plantroom.wire.spiffe import SpiffeId


def choose(name: str, *, token_file: Path, spiffe_id: SpiffeId, tpm: str, tpm_ek: str) -> Attestor:
    """Make it: `join-token` or `tpm`; `tpm` is the chip's place, `tpm_ek` its key, rsa or ecc."""
    if name == "tpm":
        from plantroom.certs.attestor_tpm import TpmAttestor  # noqa: PLC0415 -- see above

        return TpmAttestor(tpm, kind=tpm_ek)
    return JoinToken(token_file, spiffe_id)
