"""Attestor: a join token; without one, the key itself, once an operator has admitted it.

The token's file may hold a whole join code (`plantroom.certs.join_code`) instead of the token.
"""

import hashlib
from pathlib import Path

from plantroom.certs import atomic, der, enrolment_client, join_code, pem
from plantroom.certs.enrolment_client import Answer, Server
from plantroom.certs.key_helper import KeyAndRequest
from plantroom.wire.errors import IdentityError, PlantroomError, RefusedError
from plantroom.wire.identity import TrustBundle
from plantroom.wire.spiffe import SpiffeId

_FILE_BYTES_MAX = 4096


class JoinToken:
    """`spiffe_id` joins with what is in `file`, or waits for its fingerprint to be admitted."""

    every_time = False

    def __init__(self, file: Path, spiffe_id: SpiffeId) -> None:
        self._file = file
        self._spiffe_id = spiffe_id

    def ready(self) -> bool:
        """Say whether there is a token: an operator's way to let a refused one back in."""
        return bool(self._token())

    def root_sha256(self) -> str:
        """Return the fingerprint of the root that came with a join code."""
        text = self._text()
        return join_code.parse(text).root_sha256 if text.startswith(join_code.PREFIX) else ""

    def enrol(self, server: Server, trust: TrustBundle, pending: KeyAndRequest) -> Answer:
        """Show token and CSR, or the CSR alone.

        Raises:
            RefusedError: with the server's reason; `not-admitted` says the fingerprint.
            UnreachableError: when there is no answer in time.
        """
        token = self._token()
        try:
            return enrolment_client.enrol(server, trust, token=token, csr_pem=pending.csr_pem)
        except RefusedError as error:
            if error.reason != "not-admitted":
                raise
            key = fingerprint(pending.csr_pem)
            raise IdentityError(
                f"no SVID and no join token, key {key} waits to be admitted",
                reason="not-admitted",
                where=str(server),
                remedy=f"there: {admit_command(pending.csr_pem, self._spiffe_id)}",
            ) from error

    def done(self) -> None:
        """Remove the token: it is used up."""
        atomic.remove(self._file)

    def _token(self) -> str:
        text = self._text()
        return join_code.parse(text).token if text.startswith(join_code.PREFIX) else text

    def _text(self) -> str:
        data = atomic.read(self._file, bytes_max=_FILE_BYTES_MAX)
        return (data or b"").decode("ascii", "replace").strip()


def fingerprint(csr_pem: bytes) -> str:
    """Return the SHA-256 of the SPKI in one's own CSR, as hex.

    Raises:
        IdentityError: when it is no CSR.
    """
    requests = pem.decode(pem.REQUEST, csr_pem)
    try:
        ((_, request),) = der.elements(requests[0])
        _, signed = next(der.elements(request))
        _version, _name, (tag, key), *_ = der.elements(signed)
    except (ValueError, IndexError, PlantroomError) as error:
        raise IdentityError("not a CSR", reason="csr-bad") from error
    return hashlib.sha256(der.write(tag, key)).hexdigest()


def admit_command(csr_pem: bytes, spiffe_id: SpiffeId) -> str:
    """Return what an operator types at the issuer to admit this key."""
    return f"plantroom identity admit {fingerprint(csr_pem)} --spiffe-id {spiffe_id}"
