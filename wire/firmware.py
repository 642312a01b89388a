"""A release of firmware: what Plantroom writes into a SUIT manifest, and reads out of one.

Two components: the image, fetched from whoever serves it, and the table of its chunks' digests,
which travels in the envelope, so that one bad chunk is found and asked for again alone.
"""

import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from plantroom.wire import cbor, suit, suit_commands
from plantroom.wire.cose import Signer, malformed
from plantroom.wire.errors import RejectedError
from plantroom.wire.suit import Envelope
from plantroom.wire.suit_commands import Commands, Target

DEFAULT_VENDOR = "plantroom.example"
IMAGE_BYTES_MAX = 256 * 1024 * 1024
CHUNK_BYTES = 16 * 1024
CHUNK_BYTES_MIN, CHUNK_BYTES_MAX = 1024, 128 * 1024
NOTES_CHARACTERS_MAX = 2000
DIGEST_BYTES = 32
CHUNKS_NAME = "#chunks"
URI_START = "mqtt:fw/"
_IMAGE, _TABLE = 0, 1
_COMPONENTS = ((b"firmware",), (b"chunks",))
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){0,7}")
_TEXT_DESCRIPTION = 1  # SUIT 8.6.4: suit-text-manifest-description
_REPORT_ALL, _REPORT_FAILURE = 15, 2  # SUIT 8.4.7: reporting policies
_LANGUAGE = "en"
_MANIFEST_KEYS = {suit.VERSION, suit.SEQUENCE, suit.COMMON, suit.SET_VERSION, suit.VALIDATE}
_MANIFEST_KEYS |= {suit.INSTALL, suit.TEXT}
_error = malformed("release")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """How an image is cut, and the digest of each piece, one behind the other."""

    image_bytes: int
    chunk_bytes: int
    digests: bytes

    def __post_init__(self) -> None:
        if not 0 < self.image_bytes <= IMAGE_BYTES_MAX:
            raise _error(f"image has {self.image_bytes} bytes, 1 to {IMAGE_BYTES_MAX} may be")
        if not CHUNK_BYTES_MIN <= self.chunk_bytes <= CHUNK_BYTES_MAX:
            raise _error(f"chunks have {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX} bytes")
        if len(self.digests) != self.count * DIGEST_BYTES:
            raise _error("table of chunks does not fit the image's size")

    @property
    def count(self) -> int:
        """How many there are."""
        return -(-self.image_bytes // self.chunk_bytes)

    def length(self, number: int) -> int:
        """Return how many bytes a chunk has; only the last may be shorter."""
        return min(self.chunk_bytes, self.image_bytes - number * self.chunk_bytes)

    def fits(self, number: int, data: bytes) -> bool:
        """Say whether this is the chunk of that number."""
        at = number * DIGEST_BYTES
        return (
            0 <= number < self.count
            and len(data) == self.length(number)
            and hashlib.sha256(data).digest() == self.digests[at : at + DIGEST_BYTES]
        )

    def encode(self) -> bytes:
        """Encode the table as it travels; the size is the manifest's."""
        return cbor.dumps([self.chunk_bytes, self.digests])


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release for one class of devices, as its manifest says; `digest` is the manifest's."""

    digest: bytes
    sequence: int
    version: str
    vendor_id: bytes
    class_id: bytes
    image_digest: bytes
    chunks: Chunks
    device_id: bytes | None = None
    notes: str = ""

    @property
    def image(self) -> str:
        """The image's name on topics and in caches: its digest in hex."""
        return self.image_digest.hex()


@dataclass(slots=True)
class _Wanted:
    """Contents on paper: notes what is fetched from where, and believes that it will match."""

    uris: dict[int, str] = field(default_factory=dict)
    images: dict[int, tuple[bytes, int | None]] = field(default_factory=dict)

    def image(self, component: int) -> tuple[bytes, int]:
        digest, size = self.images.get(component, (b"", None))
        if size is None:
            raise _error(f"component {component} has no digest and size")
        return digest, size

    def fetch(self, component: int, uri: str) -> None:
        self.uris[component] = uri

    def copy(self, component: int, source: int) -> None:
        raise RejectedError(
            f"component {component} would copy {source}", code="unsupported-command"
        )

    def invoke(self, component: int) -> None:
        raise RejectedError(f"component {component} is invoked", code="unsupported-command")

    def matches(self, component: int, digest: bytes, size: int | None) -> bool:
        if self.images.setdefault(component, (digest, size)) != (digest, size):
            raise _error(f"component {component} has two digests")
        return True


def class_id(vendor: str, name: str) -> tuple[bytes, bytes]:
    """Return the vendor's and the class's identifier (SUIT 8.4.8.2: UUID version 5, RFC 9562)."""
    made = uuid.uuid5(uuid.NAMESPACE_DNS, vendor)
    return made.bytes, uuid.uuid5(made, name).bytes


def class_is(name: str, *, vendor_id: bytes, class_id: bytes) -> bool:
    """Say whether this class of this vendor has that name."""
    return uuid.uuid5(uuid.UUID(bytes=vendor_id), name).bytes == class_id


def device_id(vendor_id: bytes, spiffe_id: str) -> bytes:
    """Return a device's identifier: the same for everyone who knows its SPIFFE ID."""
    return uuid.uuid5(uuid.UUID(bytes=vendor_id), spiffe_id).bytes


def read(envelope: Envelope, target: Target | None = None) -> Release:
    """Read a release; with a `target`, refuse what is not for it. No signature is checked here.

    Raises:
        RejectedError: `wrong-vendor`, `wrong-class`, `wrong-device`, `unsupported-…`,
            `unknown-envelope-key`, `unknown-manifest-key`, `digest-mismatch` or `malformed`.
    """
    manifest = envelope.manifest
    _check_form(envelope)
    wanted = _Wanted()
    commands = Commands(manifest, target, wanted)
    commands.run(suit.INSTALL, suit.VALIDATE)
    image_digest, image_bytes = wanted.image(_IMAGE)
    table_digest, table_bytes = wanted.image(_TABLE)
    table = envelope.members[CHUNKS_NAME]
    if wanted.uris != {_IMAGE: URI_START + image_digest.hex(), _TABLE: CHUNKS_NAME}:
        raise RejectedError("image is not fetched by its own digest", code="unsupported-uri")
    if len(table) != table_bytes or hashlib.sha256(table).digest() != table_digest:
        raise RejectedError("table of chunks is not the signed one", code="digest-mismatch")
    ids = commands.claims
    if suit_commands.VENDOR not in ids or suit_commands.CLASS not in ids:
        raise _error("manifest is for no vendor and class")
    return Release(
        digest=envelope.digest,
        sequence=manifest.sequence,
        version=".".join(map(str, manifest.set_version)),
        vendor_id=ids[suit_commands.VENDOR],
        class_id=ids[suit_commands.CLASS],
        device_id=ids.get(suit_commands.DEVICE),
        image_digest=image_digest,
        chunks=_read_chunks(table, image_bytes),
        notes=_read_notes(manifest.text),
    )


def _check_form(envelope: Envelope) -> None:
    manifest = envelope.manifest
    for key in envelope.members:
        if key != CHUNKS_NAME:
            raise RejectedError(
                f"envelope has a member {key!r:.40} that is not used", code="unknown-envelope-key"
            )
    if manifest.keys - _MANIFEST_KEYS:
        raise RejectedError(
            f"manifest has members {sorted(manifest.keys - _MANIFEST_KEYS)}",
            code="unknown-manifest-key",
        )
    if manifest.components != _COMPONENTS or CHUNKS_NAME not in envelope.members:
        raise RejectedError("components are not firmware and chunks", code="unsupported-component")
    if not {suit.INSTALL, suit.VALIDATE} <= manifest.keys:
        raise _error("manifest installs or validates nothing")
    if not manifest.set_version or min(manifest.set_version) < 0:
        raise _error("manifest names no version")


def _read_chunks(table: bytes, image_bytes: int) -> Chunks:
    value = cbor.loads_exact(table, bytes_max=suit.ENVELOPE_BYTES_MAX, error=_error)
    if not isinstance(value, list) or [type(part) for part in value] != [int, bytes]:
        raise _error("table of chunks is not a size and digests")
    return Chunks(image_bytes=image_bytes, chunk_bytes=value[0], digests=value[1])


def _read_notes(text: bytes) -> str:
    if not text:
        return ""
    value = cbor.loads_exact(text, bytes_max=4 * NOTES_CHARACTERS_MAX + 64, error=_error)
    inner = value.get(_LANGUAGE) if isinstance(value, dict) else None
    notes = inner.get(_TEXT_DESCRIPTION) if isinstance(inner, dict) else None
    if not isinstance(notes, str) or len(notes) > NOTES_CHARACTERS_MAX:
        raise _error("text is not a description")
    return notes


def cut(image: BinaryIO, chunk_bytes: int = CHUNK_BYTES) -> tuple[bytes, Chunks]:
    """Return an image's digest and its table of chunks; it is read piece by piece."""
    whole, digests, size = hashlib.sha256(), bytearray(), 0
    while piece := image.read(chunk_bytes):
        whole.update(piece)
        digests += hashlib.sha256(piece).digest()
        size += len(piece)
        if size > IMAGE_BYTES_MAX:
            break
    chunks = Chunks(image_bytes=size, chunk_bytes=chunk_bytes, digests=bytes(digests))
    return whole.digest(), chunks


def release(  # noqa: PLR0913 -- what a release is, each by keyword
    *,
    sequence: int,
    version: str,
    vendor: str,
    kind: str,
    image_digest: bytes,
    chunks: Chunks,
    device: str = "",
    notes: str = "",
) -> Release:
    """Describe a release of an image for a class of a vendor; `device` is a SPIFFE ID.

    Raises:
        RejectedError: when the version is not numbers and dots, or the notes are too long.
    """
    if not _VERSION.fullmatch(version):
        raise _error(f"version {version!r:.40} is not numbers and dots, as 1.4.0")
    if len(notes) > NOTES_CHARACTERS_MAX:
        raise _error(f"notes are longer than {NOTES_CHARACTERS_MAX} characters")
    vendor_id, of_class = class_id(vendor, kind)
    return Release(
        digest=b"",
        sequence=sequence,
        version=version,
        vendor_id=vendor_id,
        class_id=of_class,
        device_id=device_id(vendor_id, device) if device else None,
        image_digest=image_digest,
        chunks=chunks,
        notes=notes,
    )


def build(made: Release, signers: Iterable[Signer]) -> bytes:
    """Build the signed envelope of a release.

    Raises:
        RejectedError: when the table of chunks makes it too large: larger chunks help.
    """
    table = made.chunks.encode()
    envelope = suit.build(_manifest(made, table), signers, members={CHUNKS_NAME: table})
    if len(envelope) > suit.ENVELOPE_BYTES_MAX:
        raise RejectedError(
            f"envelope has {len(envelope)} bytes, the limit is {suit.ENVELOPE_BYTES_MAX}",
            code="malformed",
            remedy="cut the image into larger chunks",
        )
    return envelope


def _manifest(made: Release, table: bytes) -> bytes:
    ids: dict[int, Any] = {
        suit_commands.VENDOR: made.vendor_id,
        suit_commands.CLASS: made.class_id,
    }
    if made.device_id is not None:
        ids[suit_commands.DEVICE] = made.device_id
    image = _parameters(made.image_digest, made.chunks.image_bytes)
    chunks = _parameters(hashlib.sha256(table).digest(), len(table))
    checks = [part for number in ids for part in (number, _REPORT_ALL)]
    shared = [
        *(suit_commands.SET_INDEX, _TABLE, suit_commands.OVERRIDE, chunks),
        *(suit_commands.SET_INDEX, _IMAGE, suit_commands.OVERRIDE, ids | image, *checks),
    ]
    uri = URI_START + made.image_digest.hex()
    text = cbor.dumps({_LANGUAGE: {_TEXT_DESCRIPTION: made.notes}}) if made.notes else b""
    return suit.build_manifest(
        sequence=made.sequence,
        components=_COMPONENTS,
        shared=shared,
        sequences={
            suit.INSTALL: [*_fetch(_TABLE, CHUNKS_NAME), *_fetch(_IMAGE, uri)],
            suit.VALIDATE: [
                *(suit_commands.SET_INDEX, _IMAGE),
                *(suit_commands.MATCH, _REPORT_ALL),
            ],
        },
        set_version=tuple(int(part) for part in made.version.split(".")),
        text=text,
    )


def _parameters(digest: bytes, size: int) -> dict[int, Any]:
    return {suit_commands.DIGEST: suit.encode_digest(digest), suit_commands.SIZE: size}


def _fetch(component: int, uri: str) -> list[Any]:
    return [
        *(suit_commands.SET_INDEX, component),
        *(suit_commands.OVERRIDE, {suit_commands.URI: uri}),
        *(suit_commands.FETCH, _REPORT_FAILURE),
        *(suit_commands.MATCH, _REPORT_ALL),
    ]
