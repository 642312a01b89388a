"""The identity seam: who this process is, whom it trusts, and how it hears of changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from plantroom.wire.spiffe import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Svid:
    """An X.509-SVID with its private key.

    `chain_pem`: leaf first, then intermediates. `key_pem`: PKCS#8. Times are seconds since 1970.
    """

    spiffe_id: SpiffeId
    chain_pem: bytes
    key_pem: bytes = field(repr=False)  # never in a log
    serial: str
    not_before_s: int
    not_after_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBundle:
    """The roots of one trust domain, as DER; `sequence` only rises (SPIFFE-TDB 4.1)."""

    trust_domain: str
    roots_der: tuple[bytes, ...]
    sequence: int = 0
    refresh_hint_s: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a source knows now; `revision` rises with every change."""

    svid: Svid
    bundles: Mapping[str, TrustBundle]
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whom the other end of a TLS connection has proven to be."""

    spiffe_id: SpiffeId
    serial: str
    not_after_s: int


class IdentitySource(Protocol):
    """Where SVIDs and bundles come from: embedded issuer, SPIFFE Workload API, files."""

    def current(self) -> Identity:
        """Return the newest identity.

        Raises:
            IdentityError: when there is none yet.
        """
        ...

    async def changed(self, revision: int) -> Identity:
        """Wait for an identity newer than `revision`, and return it."""
        ...
