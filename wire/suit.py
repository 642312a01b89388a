"""SUIT envelopes and manifests: read and built, nothing run and nothing trusted yet.

Source: draft-ietf-suit-manifest-37, sections 5 and 8; `suit-set-version` is of
draft-ietf-suit-update-management.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cbor2

from plantroom.wire import cbor, cose
from plantroom.wire.cose import Signature, Signed, Signer, malformed
from plantroom.wire.errors import RejectedError

ENVELOPE_BYTES_MAX = cose.DOCUMENT_BYTES_MAX
COMPONENTS_MAX = 16
TAG = 107
SHA256 = -16
AUTHENTICATION, MANIFEST = 2, 3  # envelope
VERSION, SEQUENCE, COMMON, REFERENCE, SET_VERSION = 1, 2, 3, 4, 6  # manifest
VALIDATE, LOAD, INVOKE, PAYLOAD_FETCH, INSTALL, TEXT = 7, 8, 9, 16, 20, 23
SEVERABLE = (PAYLOAD_FETCH, INSTALL, TEXT)
_COMPONENTS, _SHARED = 2, 4  # common
_SEQUENCE_MAX = 2**53 - 1
_envelope_error, _manifest_error = malformed("envelope"), malformed("manifest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a manifest says, its command sequences still encoded."""

    sequence: int
    components: tuple[tuple[bytes, ...], ...]
    shared: bytes = b""
    sequences: Mapping[int, bytes] = field(default_factory=dict)
    set_version: tuple[int, ...] = ()
    text: bytes = b""
    keys: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A read envelope. `digest` is that of its manifest: an envelope's own can be changed at will.

    `signed` is the digest's encoding with the signatures over it; `members` are what came beside
    manifest and authentication: severed members by number, integrated payloads by their `#name`.
    """

    digest: bytes
    signed: Signed
    manifest: Manifest
    members: Mapping[int | str, bytes] = field(default_factory=dict)


def digest_of(data: bytes) -> bytes:
    """Return SHA-256 of the byte string's *encoding*, as authentication and severing want it."""
    return hashlib.sha256(cbor.dumps(data)).digest()  # SUIT 6.2, 8.2


def encode_digest(digest: bytes) -> bytes:
    """Encode a SUIT_Digest."""
    return cbor.dumps([SHA256, digest])


def read_digest(data: Any) -> bytes:
    """Read an encoded SUIT_Digest, or one that stands there as it is.

    Raises:
        RejectedError: `malformed`.
    """
    value = data
    if isinstance(data, bytes):
        value = cbor.loads_exact(data, bytes_max=64, error=malformed("digest"))
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] != SHA256:
        raise malformed("digest")("is not SHA-256")
    if not isinstance(value[1], bytes) or len(value[1]) != hashlib.sha256().digest_size:
        raise malformed("digest")("has not 32 bytes")
    return value[1]


def read(data: bytes) -> Envelope:
    """Read an envelope, tagged or not; its signatures are read and not yet checked.

    Raises:
        RejectedError: `malformed`, `unknown-envelope-key` or `digest-mismatch`.
    """
    value = cbor.loads_exact(data, bytes_max=ENVELOPE_BYTES_MAX, error=_envelope_error, tags=(TAG,))
    if isinstance(value, cbor2.CBORTag):  # SUIT 5.1: the tag may be left out where it is known
        value = value.value
    if not isinstance(value, Mapping):
        raise _envelope_error("is not a map")
    for key, part in value.items():
        if not isinstance(part, bytes) or not isinstance(key, int | str):
            raise _envelope_error("a member is not bytes under a number or a name")
    if AUTHENTICATION not in value or MANIFEST not in value:
        raise _envelope_error("has no authentication (2) or no manifest (3)")
    digest, signed = _read_authentication(value[AUTHENTICATION])
    if digest != digest_of(value[MANIFEST]):
        raise RejectedError("manifest is not the one that was signed", code="digest-mismatch")
    members = {key: part for key, part in value.items() if key not in {AUTHENTICATION, MANIFEST}}
    manifest = _read_manifest(value[MANIFEST], members)
    return Envelope(digest=digest, signed=signed, manifest=manifest, members=members)


def _read_authentication(data: bytes) -> tuple[bytes, Signed]:
    blocks = cbor.loads_exact(data, bytes_max=ENVELOPE_BYTES_MAX, error=_envelope_error)
    if not isinstance(blocks, list) or not 1 <= len(blocks) <= 1 + cose.SIGNATURES_MAX:
        raise _envelope_error(f"has not a digest and up to {cose.SIGNATURES_MAX} signatures")
    if not all(isinstance(block, bytes) for block in blocks):
        raise _envelope_error("an authentication block is not bytes")
    first, *rest = blocks
    found: list[Signature] = []
    for block in rest:
        found += cose.read_sign1(block, "signature", detached=first).signatures
    return read_digest(first), Signed(payload=first, signatures=tuple(found))


def _read_manifest(data: bytes, members: Mapping[int | str, bytes]) -> Manifest:
    table = cbor.loads_exact(data, bytes_max=ENVELOPE_BYTES_MAX, error=_manifest_error)
    if not isinstance(table, dict) or not all(type(key) is int for key in table):
        raise _manifest_error("is not a map with numbers as keys")
    if table.get(VERSION) != 1:  # SUIT 8.4.1
        raise _manifest_error(f"version is {table.get(VERSION)!r:.20}, 1 is known")
    sequence = table.get(SEQUENCE)
    if type(sequence) is not int or not 0 <= sequence <= _SEQUENCE_MAX:
        raise _manifest_error("sequence number is not a whole number")
    components, shared = _read_common(table.get(COMMON))
    sequences = {
        key: part
        for key in (VALIDATE, LOAD, INVOKE, PAYLOAD_FETCH, INSTALL)
        if (part := _member(key, table, members)) is not None
    }
    _check_members(table, members)
    return Manifest(
        sequence=sequence,
        components=components,
        shared=shared,
        sequences=sequences,
        set_version=_read_version(table.get(SET_VERSION, ())),
        text=_member(TEXT, table, members) or b"",
        keys=frozenset(table),
    )


def _member(key: int, table: Mapping[int, Any], members: Mapping[int | str, bytes]) -> bytes | None:
    """Return a manifest's member, also where it was severed; None where it was left away."""
    value = table.get(key)
    if value is None or isinstance(value, bytes):
        return value
    if key not in SEVERABLE:
        raise _manifest_error(f"member {key} is not bytes")
    part, wanted = members.get(key), read_digest(value)
    if part is not None and digest_of(part) != wanted:  # SUIT 8.5
        raise RejectedError(f"severed member {key} was changed", code="digest-mismatch")
    return part


def _check_members(table: Mapping[int, Any], members: Mapping[int | str, bytes]) -> None:
    for key in members:
        severed = key in SEVERABLE and isinstance(table.get(key), list | tuple)
        integrated = isinstance(key, str) and key.startswith("#")
        if not severed and not integrated:
            raise RejectedError(
                f"envelope has a member {key!r:.40} that nobody knows", code="unknown-envelope-key"
            )


def _read_common(data: Any) -> tuple[tuple[tuple[bytes, ...], ...], bytes]:
    if not isinstance(data, bytes):
        raise _manifest_error("has no common part")
    common = cbor.loads_exact(data, bytes_max=ENVELOPE_BYTES_MAX, error=_manifest_error)
    if not isinstance(common, dict) or set(common) - {_COMPONENTS, _SHARED}:
        raise _manifest_error("common part has other members than components and commands")
    components, shared = common.get(_COMPONENTS), common.get(_SHARED, b"")
    if not isinstance(components, list) or not 0 < len(components) <= COMPONENTS_MAX:
        raise _manifest_error(f"has not 1 to {COMPONENTS_MAX} components")
    if not all(_is_component(one) for one in components) or not isinstance(shared, bytes):
        raise _manifest_error("a component or the shared sequence is not of its form")
    return tuple(tuple(one) for one in components), shared


def _is_component(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, bytes) for part in value)


def _read_version(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or len(value) > 8:
        raise _manifest_error("version is not a short list")
    if not all(type(part) is int and -(2**31) <= part < 2**31 for part in value):
        raise _manifest_error("version is not of whole numbers")
    return tuple(value)


def build_manifest(  # noqa: PLR0913 -- a manifest's members
    *,
    sequence: int,
    components: Sequence[Sequence[bytes]],
    shared: Sequence[Any],
    sequences: Mapping[int, Sequence[Any]],
    set_version: Sequence[int] = (),
    text: bytes = b"",
) -> bytes:
    """Encode a manifest; command sequences are lists of commands and arguments."""
    common = {_COMPONENTS: [list(one) for one in components], _SHARED: cbor.dumps(list(shared))}
    table: dict[int, Any] = {VERSION: 1, SEQUENCE: sequence, COMMON: cbor.dumps(common)}
    table |= {key: cbor.dumps(list(commands)) for key, commands in sequences.items()}
    if set_version:
        table[SET_VERSION] = list(set_version)
    if text:
        table[TEXT] = text
    return cbor.dumps(table)


def build(
    manifest: bytes, signers: Iterable[Signer], *, members: Mapping[int | str, bytes] | None = None
) -> bytes:
    """Wrap a manifest in an envelope with a signature of each signer."""
    digest = encode_digest(digest_of(manifest))
    blocks = [cose.sign1(digest, one, detached=True) for one in signers]
    return build_of(manifest, blocks, members=members)


def build_of(
    manifest: bytes, blocks: Iterable[bytes], *, members: Mapping[int | str, bytes] | None = None
) -> bytes:
    """Wrap a manifest in an envelope with authentication blocks that are there."""
    digest = encode_digest(digest_of(manifest))
    table = {AUTHENTICATION: cbor.dumps([digest, *blocks]), MANIFEST: manifest, **(members or {})}
    return cbor.dumps(cbor2.CBORTag(TAG, table))


def countersign(data: bytes, signer: Signer) -> bytes:
    """Add a signature to an envelope.

    Raises:
        RejectedError: when it is no envelope.
    """
    envelope = read(data)
    table = cbor.loads_exact(data, bytes_max=ENVELOPE_BYTES_MAX, error=_envelope_error, tags=(TAG,))
    table = table.value if isinstance(table, cbor2.CBORTag) else table
    _, *blocks = cbor.loads_exact(
        table[AUTHENTICATION], bytes_max=ENVELOPE_BYTES_MAX, error=_envelope_error
    )
    blocks.append(cose.sign1(envelope.signed.payload, signer, detached=True))
    return build_of(table[MANIFEST], blocks, members=envelope.members)
