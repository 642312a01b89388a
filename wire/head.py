"""The head: which release of each class is the current one, for how long, and which are revoked.

A CWT in a COSE_Sign1, signed by the head key, which is online; it expires, so that nobody can keep
a device from newer releases unnoticed. Source: RFC 8392, claims 1, 4 and 6; private claims below.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from plantroom.wire import cbor, cose, shape
from plantroom.wire.cose import Signed, Signer, malformed
from plantroom.wire.firmware import DIGEST_BYTES

EXPIRES_S = 7 * 24 * 3600
CLASSES_MAX, REVOKED_MAX = 256, 256
_ISSUER, _EXPIRY, _ISSUED = 1, 4, 6
_VERSION, _CLASSES, _REVOKED = -70001, -70002, -70003  # RFC 8392, 9.1: below -65536 are private
_CLAIMS = {_ISSUER, _EXPIRY, _ISSUED, _VERSION, _CLASSES, _REVOKED}
_WHAT = "head"
_error = malformed(_WHAT)

Rollout = Literal["all", "assigned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The release of one class: its sequence number, its manifest's digest, and who may take it."""

    sequence: int
    digest: bytes
    rollout: Rollout = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a head says; classes by their identifier, releases by their manifest's digest."""

    version: int
    issued_s: int
    expires_s: int
    classes: Mapping[bytes, Pin] = field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()
    issuer: str = ""


def read(data: bytes) -> tuple[Head, Signed]:
    """Read a head; its signature is for the caller to check.

    Raises:
        RejectedError: `malformed`.
    """
    signed = cose.read_sign1(data, _WHAT)
    claims = cbor.loads_exact(signed.payload, bytes_max=cose.DOCUMENT_BYTES_MAX, error=_error)
    if not isinstance(claims, dict) or set(claims) != _CLAIMS:
        raise _error("has not just its six claims")
    numbers = [claims[name] for name in (_VERSION, _ISSUED, _EXPIRY)]
    if not all(type(one) is int and 0 <= one < 2**53 for one in numbers):
        raise _error("version, iat or exp is not a whole number")
    if not isinstance(claims[_ISSUER], str) or len(claims[_ISSUER]) > 2048:
        raise _error("iss is not text")
    return (
        Head(
            version=numbers[0],
            issued_s=numbers[1],
            expires_s=numbers[2],
            classes=_read_classes(claims[_CLASSES]),
            revoked=_read_revoked(claims[_REVOKED]),
            issuer=claims[_ISSUER],
        ),
        signed,
    )


def _read_classes(value: Any) -> dict[bytes, Pin]:
    if not isinstance(value, dict) or len(value) > CLASSES_MAX:
        raise _error(f"classes are not a map of up to {CLASSES_MAX}")
    made = {}
    for name, row in value.items():
        if not isinstance(name, bytes) or len(name) != 16:
            raise _error("a class is not 16 bytes")
        sequence, digest, rollout = shape.from_plain(
            tuple[int, bytes, str], row, _error, "a class's row"
        )
        if rollout not in get_args(Rollout) or len(digest) != DIGEST_BYTES or sequence < 0:
            raise _error("a class has not sequence, digest and all or assigned")
        made[name] = Pin(sequence=sequence, digest=digest, rollout=rollout)
    return made


def _read_revoked(value: Any) -> frozenset[bytes]:
    if not isinstance(value, list) or len(value) > REVOKED_MAX:
        raise _error(f"revoked is not a list of up to {REVOKED_MAX}")
    if not all(isinstance(one, bytes) and len(one) == DIGEST_BYTES for one in value):
        raise _error("a revoked release is not a digest")
    return frozenset(value)


def build(head: Head, signer: Signer) -> bytes:
    """Sign a head."""
    claims = {
        _ISSUER: head.issuer,
        _EXPIRY: head.expires_s,
        _ISSUED: head.issued_s,
        _VERSION: head.version,
        _CLASSES: {
            name: [pin.sequence, pin.digest, pin.rollout] for name, pin in head.classes.items()
        },
        _REVOKED: sorted(head.revoked),
    }
    return cose.sign1(cbor.dumps(claims), signer)
