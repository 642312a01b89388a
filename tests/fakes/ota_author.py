"""An author of updates for tests: keys of every role, and documents signed with any of them."""

import hashlib
import io
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from plantroom.certs import signatures
from plantroom.wire import firmware, head, trust
from plantroom.wire.cose import Signer
from plantroom.wire.firmware import Release
from plantroom.wire.head import Head, Pin, Rollout
from plantroom.wire.suit_commands import Target

VENDOR, KIND, DEVICE = "plantroom.test", "hvac", "spiffe://building-1.smart.local/agent/hvac-001"
IMAGE = b"a firmware image of this test\n" * 3000
NOW_S = 1_795_000_000
NOW_US = NOW_S * 1_000_000


def signer() -> Signer:
    return signatures.signer(ed25519.Ed25519PrivateKey.generate())


def p256_signer() -> Signer:
    return signatures.signer(ec.generate_private_key(ec.SECP256R1()))


class Author:
    """Three root keys of which two have to sign, one author key, one head key."""

    def __init__(self, *, now_s: int = NOW_S) -> None:
        self.roots = [signer() for _ in range(3)]
        self.authors = [signer()]
        self.author_threshold = 1
        self.heads = [signer()]
        self.now_s = now_s
        vendor_id, class_id = firmware.class_id(VENDOR, KIND)
        self.target = Target(
            vendor_id=vendor_id,
            class_id=class_id,
            device_id=firmware.device_id(vendor_id, DEVICE),
        )

    def trust(
        self,
        version: int = 1,
        *,
        by: Sequence[Signer] | None = None,
        root_threshold: int = 2,
        expires_s: int | None = None,
    ) -> bytes:
        payload = trust.payload(
            version=version,
            expires_s=self.now_s + 365 * 86400 if expires_s is None else expires_s,
            roles={
                "root": (root_threshold, [one.key for one in self.roots]),
                "author": (self.author_threshold, [one.key for one in self.authors]),
                "head": (1, [one.key for one in self.heads]),
            },
        )
        return trust.build(payload, self.roots[:2] if by is None else by)

    def release(self, sequence: int = 10, image: bytes = IMAGE, **changes: object) -> Release:
        digest, chunks = firmware.cut(io.BytesIO(image))
        given: dict[str, object] = {
            "sequence": sequence,
            "version": f"1.{sequence}.0",
            "vendor": VENDOR,
            "kind": KIND,
            "image_digest": digest,
            "chunks": chunks,
        }
        return firmware.release(**(given | changes))  # type: ignore[arg-type]

    def manifest(
        self,
        sequence: int = 10,
        image: bytes = IMAGE,
        *,
        by: Sequence[Signer] | None = None,
        **changes: object,
    ) -> bytes:
        return firmware.build(
            self.release(sequence, image, **changes), self.authors if by is None else by
        )

    def head(  # noqa: PLR0913 -- what an attack may change, by keyword
        self,
        version: int = 1,
        manifests: Sequence[bytes] = (),
        *,
        by: Signer | None = None,
        rollout: Rollout = "all",
        revoked: Sequence[bytes] = (),
        lives_s: int = head.EXPIRES_S,
        classes: Mapping[bytes, Pin] | None = None,
    ) -> bytes:
        releases = [read(one) for one in manifests]
        pins = {
            one.class_id: Pin(sequence=one.sequence, digest=one.digest, rollout=rollout)
            for one in releases
        }
        made = Head(
            version=version,
            issued_s=self.now_s - 60,
            expires_s=self.now_s + lives_s,
            classes=pins | dict(classes or {}),
            revoked=frozenset(read(one).digest for one in revoked),
            issuer="spiffe://smart-building.cloud/agent/ota",
        )
        return head.build(made, by or self.heads[0])


def read(manifest: bytes) -> Release:
    from plantroom.wire import suit

    return firmware.read(suit.read(manifest))


def digest(image: bytes) -> bytes:
    return hashlib.sha256(image).digest()
