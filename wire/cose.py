"""COSE_Sign1 and COSE_Sign as updates use them: read, build, and count who has signed.

What verifies a signature is handed in (`Verify`): `plantroom.certs.signatures` where `cryptography`
is loaded anyway, `plantroom.certs.light_signatures` on a device. Source: RFC 9052, sections 4.2,
4.3 and 4.4; RFC 9864 for the algorithms; RFC 9679 for the key's name.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cbor2

from plantroom.wire import cbor
from plantroom.wire.errors import RejectedError

ESP256, ED25519 = -9, -19  # RFC 9864: what we sign with
ES256, EDDSA = -7, -8  # RFC 9053: what others may have signed with, on the same curves
ALGORITHMS = {ED25519: "Ed25519", ESP256: "ESP256"}
_SAME_CURVE = {ES256: ESP256, EDDSA: ED25519}
_RAW_KEY_BYTES = {ED25519: 32, ESP256: 65}
SIGNATURE_BYTES = 64
KEY_ID_BYTES = 8
SIGNATURES_MAX = 8
DOCUMENT_BYTES_MAX = 64 * 1024
SIGN, SIGN1 = 98, 18  # RFC 9052, table 1: tags
_HEADER_ALGORITHM, _HEADER_KEY_ID = 1, 4  # RFC 9052, 3.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key that may verify: Ed25519's 32 bytes, or P-256's uncompressed point of 65."""

    algorithm: int
    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != _RAW_KEY_BYTES.get(self.algorithm, -1):
            raise RejectedError("a key is Ed25519 (32 bytes) or P-256 (65 bytes)", code="bad-key")

    @property
    def kid(self) -> bytes:
        """The start of its thumbprint: a name that nobody can give to another key."""
        # RFC 9679, 3: the required members of the COSE_Key (RFC 9053, 7), deterministically
        if self.algorithm == ED25519:
            members: dict[int, Any] = {1: 1, -1: 6, -2: self.raw}
        else:
            members = {1: 2, -1: 1, -2: self.raw[1:33], -3: self.raw[33:]}
        return hashlib.sha256(cbor.dumps(members)).digest()[:KEY_ID_BYTES]


Verify = Callable[[PublicKey, bytes, bytes], bool]  # key, signature, message


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature: its protected header, who it says has made it, and over what."""

    protected: bytes
    algorithm: int
    kid: bytes | None
    signature: bytes
    context: str
    body: bytes = b""

    def message(self, payload: bytes) -> bytes:
        """Return the Sig_structure that was signed."""
        return signed_bytes(self.context, self.body, self.protected, payload)

    def is_of(self, key: PublicKey, payload: bytes, verify: Verify) -> bool:
        """Say whether this key has made it; another curve's algorithm never verifies."""
        if _SAME_CURVE.get(self.algorithm, self.algorithm) != key.algorithm:
            return False
        return verify(key, self.signature, self.message(payload))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A payload with its signatures."""

    payload: bytes
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Something that signs: a key of a file or in an HSM."""

    key: PublicKey
    sign: Callable[[bytes], bytes]


def signed_bytes(context: str, body: bytes, protected: bytes, payload: bytes) -> bytes:
    """Build the Sig_structure."""
    if context == "Signature1":
        return cbor.dumps([context, protected, b"", payload])  # RFC 9052, 4.4
    return cbor.dumps([context, body, protected, b"", payload])


def signers(
    signatures: Iterable[Signature],
    payload: bytes,
    keys: Mapping[bytes, PublicKey],
    verify: Verify,
) -> set[bytes]:
    """Return which of these keys have signed; each counts once, and only under its own name."""
    good = set()
    for one in signatures:
        key = keys.get(one.kid) if one.kid is not None else None
        if key is not None and one.kid not in good and one.is_of(key, payload, verify):
            good.add(key.kid)
    return good


def check_threshold(  # noqa: PLR0913 -- a rule's parts, by keyword
    signed: Signed,
    *,
    keys: Mapping[bytes, PublicKey],
    threshold: int,
    verify: Verify,
    what: str,
    code: str,
) -> None:
    """Check that enough of these keys have signed.

    Raises:
        RejectedError: with `code`, when fewer have.
    """
    good = signers(signed.signatures, signed.payload, keys, verify)
    if threshold < 1 or len(good) < threshold:
        raise RejectedError(f"{what} has {len(good)} of {threshold} valid signatures", code=code)


def decode(data: bytes, tag: int, what: str, *, bytes_max: int = DOCUMENT_BYTES_MAX) -> Any:
    """Decode a tagged COSE document and return its array.

    Raises:
        RejectedError: `malformed`.
    """
    value = cbor.loads_exact(data, bytes_max=bytes_max, error=malformed(what), tags=(tag,))
    if not isinstance(value, cbor2.CBORTag) or not isinstance(value.value, list | tuple):
        raise malformed(what)(f"is not tagged {tag}")
    if len(value.value) != 4:
        raise malformed(what)("has not four parts")
    return value.value


def malformed(what: str) -> Callable[[str], RejectedError]:
    """Make the error for bytes that are not what they should be."""
    return lambda text: RejectedError(f"{what}: {text}", code="malformed")


def read_sign1(data: bytes, what: str, *, detached: bytes | None = None) -> Signed:
    """Read a COSE_Sign1; `detached` is the payload where it travels apart.

    Raises:
        RejectedError: `malformed`.
    """
    protected, unprotected, payload, signature = decode(data, SIGN1, what)
    if (payload is None) != (detached is not None):
        raise malformed(what)("payload is attached where it is not wanted, or missing")
    carried = detached if payload is None else payload
    if not isinstance(carried, bytes):
        raise malformed(what)("payload is not bytes")
    one = _signature("Signature1", b"", protected, unprotected, signature, what)
    return Signed(payload=carried, signatures=(one,))


def read_sign(data: bytes, what: str) -> Signed:
    """Read a COSE_Sign with its payload.

    Raises:
        RejectedError: `malformed`.
    """
    body, headers, payload, parts = decode(data, SIGN, what)
    if body != b"" or headers or not isinstance(payload, bytes):
        raise malformed(what)("body has headers, or no payload")
    if not isinstance(parts, list | tuple) or not 0 < len(parts) <= SIGNATURES_MAX:
        raise malformed(what)(f"has not 1 to {SIGNATURES_MAX} signatures")
    made = []
    for part in parts:
        if not isinstance(part, list | tuple) or len(part) != 3:
            raise malformed(what)("a signature has not three parts")
        protected, unprotected, signature = part
        made.append(_signature("Signature", body, protected, unprotected, signature, what))
    return Signed(payload=payload, signatures=tuple(made))


def _signature(  # noqa: PLR0913, PLR0917 -- the parts of a COSE_Signature, in its order
    context: str, body: bytes, protected: Any, unprotected: Any, signature: Any, what: str
) -> Signature:
    """Check a signature's headers: nothing but algorithm and key, and both protected."""
    if not isinstance(protected, bytes) or not isinstance(unprotected, Mapping) or unprotected:
        raise malformed(what)("headers are not protected")
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        raise malformed(what)(f"a signature has not {SIGNATURE_BYTES} bytes")
    header = cbor.loads_exact(protected, bytes_max=256, error=malformed(what))
    if not isinstance(header, Mapping) or set(header) - {_HEADER_ALGORITHM, _HEADER_KEY_ID}:
        raise malformed(what)("a header other than alg and kid")  # crit too: RFC 9052, 3.1
    algorithm, kid = header.get(_HEADER_ALGORITHM), header.get(_HEADER_KEY_ID)
    if type(algorithm) is not int or not (kid is None or isinstance(kid, bytes)):
        raise malformed(what)("alg is not a number, or kid not bytes")
    return Signature(
        protected=protected,
        algorithm=algorithm,
        kid=kid,
        signature=signature,
        context=context,
        body=body,
    )


def _protected(key: PublicKey) -> bytes:
    return cbor.dumps({_HEADER_ALGORITHM: key.algorithm, _HEADER_KEY_ID: key.kid})


def sign1(payload: bytes, signer: Signer, *, detached: bool = False) -> bytes:
    """Sign; the payload is left out where it travels apart."""
    protected = _protected(signer.key)
    signature = signer.sign(signed_bytes("Signature1", b"", protected, payload))
    carried = None if detached else payload
    return cbor.dumps(cbor2.CBORTag(SIGN1, [protected, {}, carried, signature]))


def sign(payload: bytes, by: Collection[Signer]) -> bytes:
    """Sign with several keys."""
    return with_signatures(payload, [signature_by(payload, one) for one in by])


def signature_by(payload: bytes, signer: Signer) -> list[Any]:
    """Make one COSE_Signature: whoever holds a key may add theirs later."""
    protected = _protected(signer.key)
    return [protected, {}, signer.sign(signed_bytes("Signature", b"", protected, payload))]


def with_signatures(payload: bytes, signatures: Iterable[Any]) -> bytes:
    """Build a COSE_Sign of signatures that are there."""
    return cbor.dumps(cbor2.CBORTag(SIGN, [b"", {}, payload, list(signatures)]))
