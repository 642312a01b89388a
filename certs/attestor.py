"""The attestor seam: how one that has no SVID, or must prove itself anew, gets one.

Light and blocking, as everything on a device's way to its identity.
"""

from typing import Protocol

from plantroom.certs.enrolment_client import Answer, Server
from plantroom.certs.key_helper import KeyAndRequest
from plantroom.wire.identity import TrustBundle


class Attestor(Protocol):
    """Proves to the enrolment port who this is."""

    every_time: bool
    """Whether an SVID alone is not enough to renew it."""

    def ready(self) -> bool:
        """Say whether there is a proof that may help where a renewal was refused."""
        ...

    def root_sha256(self) -> str:
        """Return the SHA-256 of the root to trust, where that came with the proof; else ""."""
        ...

    def enrol(self, server: Server, trust: TrustBundle, pending: KeyAndRequest) -> Answer:
        """Get an SVID for the key of `pending`.

        Raises:
            RefusedError: with the server's reason.
            UnreachableError: when server or chip does not answer.
        """
        ...

    def done(self) -> None:
        """Forget what can be used once only: the SVID is kept."""
        ...
