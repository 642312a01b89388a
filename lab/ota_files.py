"""Documents of updates in files: made, signed, checked, and told in plain words."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantroom.certs import atomic, signatures, signing_keys
from plantroom.wire import cose, firmware, head, suit, trust
from plantroom.wire.cose import DOCUMENT_BYTES_MAX, PublicKey, Signed
from plantroom.wire.errors import CheckFailedError, ConfigError, RejectedError, UsageError
from plantroom.wire.firmware import DEFAULT_VENDOR, Release
from plantroom.wire.head import Head, Pin, Rollout
from plantroom.wire.rfc3339 import format_us
from plantroom.wire.trust import Trust

_ALGORITHMS = {-19: "Ed25519", -9: "ESP256", -8: "EdDSA", -7: "ES256"}


def read(path: Path, *, bytes_max: int = DOCUMENT_BYTES_MAX) -> bytes:
    """Read a file that has to be there.

    Raises:
        UsageError: when it is not, or is empty.
        StorageError: when it is too large.
    """
    data = atomic.read(path, bytes_max=bytes_max)
    if not data:
        what = "there is no such file" if data is None else "the file is empty"
        raise UsageError(what, where=str(path), remedy="give another file")
    return data


def write(path: Path, data: bytes) -> None:
    """Write a document, which is no secret."""
    atomic.write(path, data, mode=atomic.PUBLIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a release is to be; `sequence` 0 is the time in seconds, which rises by itself."""

    version: str
    kind: str
    vendor: str = DEFAULT_VENDOR
    sequence: int = 0
    device: str = ""
    notes: str = ""
    chunk_bytes: int = firmware.CHUNK_BYTES


def sign_image(image: bytes, wanted: Wanted, keys: Sequence[str]) -> bytes:
    """Make the signed manifest of an image.

    Raises:
        UsageError: when a part of what is wanted is not of its form.
    """
    try:
        digest, chunks = firmware.cut(io.BytesIO(image), wanted.chunk_bytes)
        made = firmware.release(
            sequence=wanted.sequence or int(time.time()),
            version=wanted.version,
            vendor=wanted.vendor,
            kind=wanted.kind,
            image_digest=digest,
            chunks=chunks,
            device=wanted.device,
            notes=wanted.notes,
        )
        return firmware.build(made, [signing_keys.signer(key) for key in keys])
    except RejectedError as error:
        raise UsageError(
            str(error), where="ota sign", remedy="see plantroom ota sign --help"
        ) from error


def add_signature(data: bytes, key: str) -> bytes:
    """Add a signature to a manifest or a trust document."""
    signer = signing_keys.signer(key)
    if _tag(data) != cose.SIGN:
        return suit.countersign(data, signer)
    _, signed = trust.read(data)
    parts = [[one.protected, {}, one.signature] for one in signed.signatures]
    return cose.with_signatures(signed.payload, [*parts, cose.signature_by(signed.payload, signer)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Keys by their names, and thresholds, of a trust document."""

    root: Sequence[str]
    author: Sequence[str]
    head: Sequence[str]
    root_threshold: int = trust.ROOT_THRESHOLD
    author_threshold: int = 1


def make_trust(roles: Roles, *, version: int, expires_s: int, also: Sequence[str] = ()) -> bytes:
    """Make a trust document, signed by the root keys that are private here, and by `also`.

    Raises:
        UsageError: when it would be one that no set of keys can meet.
    """

    def keys(names: Sequence[str]) -> list[PublicKey]:
        return [signing_keys.public_key(name) for name in names]

    payload = trust.payload(
        version=version,
        expires_s=expires_s,
        roles={
            "root": (roles.root_threshold, keys(roles.root)),
            "author": (roles.author_threshold, keys(roles.author)),
            "head": (1, keys(roles.head)),
        },
    )
    names = dict.fromkeys([*filter(signing_keys.can_sign, roles.root), *also])
    if not names:
        raise UsageError("no root key here can sign", where="--root", remedy="give a private key")
    document = trust.build(payload, [signing_keys.signer(name) for name in names])
    try:
        trust.read(document)
    except RejectedError as error:
        raise UsageError(
            str(error), where="ota trust", remedy="check keys and thresholds"
        ) from error
    return document


def make_head(  # noqa: PLR0913 -- a head's parts, by keyword
    manifests: Sequence[bytes],
    *,
    version: int,
    rollout: Rollout,
    revoked: Sequence[bytes],
    life_s: int,
    key: str,
) -> bytes:
    """Make a head that names these manifests' releases."""
    releases = [firmware.read(suit.read(data)) for data in manifests]
    now_s = int(time.time())
    made = Head(
        version=version,
        issued_s=now_s,
        expires_s=now_s + life_s,
        classes={
            one.class_id: Pin(sequence=one.sequence, digest=one.digest, rollout=rollout)
            for one in releases
        },
        revoked=frozenset(suit.read(data).digest for data in revoked),
        issuer="plantroom ota head",
    )
    return head.build(made, signing_keys.signer(key))


def verify(
    data: bytes, anchor: bytes, image: bytes | None = None, *, where: str = ""
) -> dict[str, Any]:
    """Check a document under a trust document, and an image against its manifest.

    Raises:
        CheckFailedError: with the code, when it does not hold.
        ConfigError: when the trust document itself does not.
    """
    try:
        trusted = trust.first(anchor, signatures.verify)
    except RejectedError as error:
        raise ConfigError(str(error), where="trust document", remedy="give another") from error
    try:
        kind = _check(data, trusted)
        if image is not None:
            _check_image(firmware.read(suit.read(data)), image)
    except RejectedError as error:
        raise CheckFailedError(
            f"{error.code}: {error}", where=where, remedy="do not use it"
        ) from error
    return {"kind": kind, "ok": True, "trust": trusted.version}


def _check(data: bytes, trusted: Trust) -> str:
    tag = _tag(data)
    if tag == cose.SIGN:
        read_trust, signed = trust.read(data)
        trust.check(signed, read_trust.root, signatures.verify)
        if read_trust.version == trusted.version + 1:
            trust.following(trusted, data, signatures.verify)
        return "trust"
    if tag == cose.SIGN1:
        made, signed = head.read(data)
        _check_role(signed, trusted, "head", "head-signature")
        if made.expires_s <= time.time():
            raise RejectedError("its time has passed", code="head-expired")
        return "head"
    envelope = suit.read(data)
    _check_role(envelope.signed, trusted, "author", "bad-signature")
    firmware.read(envelope)
    return "manifest"


def _check_role(signed: Signed, trusted: Trust, role: str, code: str) -> None:
    wanted = trusted.role(role)
    cose.check_threshold(
        signed,
        keys=wanted.keys,
        threshold=wanted.threshold,
        verify=signatures.verify,
        what=f"{role}'s document",
        code=code,
    )


def _check_image(release: Release, image: bytes) -> None:
    digest, chunks = firmware.cut(io.BytesIO(image), release.chunks.chunk_bytes)
    if digest != release.image_digest or chunks != release.chunks:
        raise RejectedError("the image is not the manifest's", code="wrong-image")


def inspect(data: bytes) -> dict[str, Any]:
    """Tell what a document says; nothing of it is checked but its form.

    Raises:
        RejectedError: `malformed`, when it is none.
    """
    tag = _tag(data)
    if tag == cose.SIGN:
        return _tell_trust(*trust.read(data))
    if tag == cose.SIGN1:
        return _tell_head(*head.read(data))
    envelope = suit.read(data)
    signers = _tell_signatures(envelope.signed)
    release = firmware.read(envelope)
    return {
        "kind": "manifest",
        "release": release.digest.hex(),
        "sequence": release.sequence,
        "version": release.version,
        "vendor_id": release.vendor_id.hex(),
        "class_id": release.class_id.hex(),
        "device_id": release.device_id.hex() if release.device_id else None,
        "image": release.image,
        "image_bytes": release.chunks.image_bytes,
        "chunk_bytes": release.chunks.chunk_bytes,
        "chunks": release.chunks.count,
        "notes": release.notes,
        "signatures": signers,
    }


def _tell_trust(document: Trust, signed: Signed) -> dict[str, Any]:
    roles = {
        name: {
            "threshold": document.role(name).threshold,
            "keys": [kid.hex() for kid in document.role(name).keys],
        }
        for name in trust.ROLES
    }
    return {
        "kind": "trust",
        "version": document.version,
        "expires": format_us(document.expires_s * 1_000_000),
        "roles": roles,
        "signatures": _tell_signatures(signed),
    }


def _tell_head(document: Head, signed: Signed) -> dict[str, Any]:
    return {
        "kind": "head",
        "version": document.version,
        "issuer": document.issuer,
        "issued": format_us(document.issued_s * 1_000_000),
        "expires": format_us(document.expires_s * 1_000_000),
        "classes": {
            name.hex(): {
                "sequence": pin.sequence,
                "release": pin.digest.hex(),
                "rollout": pin.rollout,
            }
            for name, pin in document.classes.items()
        },
        "revoked": sorted(digest.hex() for digest in document.revoked),
        "signatures": _tell_signatures(signed),
    }


def _tell_signatures(signed: Signed) -> list[dict[str, Any]]:
    return [
        {
            "key": one.kid.hex() if one.kid else None,
            "algorithm": _ALGORITHMS.get(one.algorithm, one.algorithm),
        }
        for one in signed.signatures
    ]


def _tag(data: bytes) -> int:
    """Return a document's tag, 0 where there is none; cbor decides whether it is well formed."""
    if not data:
        return 0
    major, small = data[0] >> 5, data[0] & 0x1F
    if major != 6:
        return 0
    return data[1] if small == 24 and len(data) > 1 else small
