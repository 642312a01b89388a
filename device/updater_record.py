"""What a device knows about its firmware: one record, replaced in one step, and its transitions.

Pure but for loading and keeping it. The order is that of a boot loader with two slots: an image is
tried a few boots long, and only one that proves itself becomes the active one. Everything that a
rollback or a replay could play on (the highest sequence number, what has failed) is in the same
record as the choice of slot.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from plantroom.device.updater_storage import Storage, put
from plantroom.wire import cbor, shape
from plantroom.wire.errors import StorageCorruptError
from plantroom.wire.firmware import Release
from plantroom.wire.ota_states import State

SLOTS = ("a", "b")
FACTORY = ""  # the slot of what the device was made with
RECORD_FILE = "record"
RECORD_BYTES_MAX = 64 * 1024
BAD_AFTER = 2  # failed trials after which a release is not tried again
_BAD_MAX = 64
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image in a slot; `release` is its manifest's digest, `digest` the image's own."""

    slot: str = FACTORY
    sequence: int = 0
    version: str = ""
    release: bytes = b""
    digest: bytes = b""
    image_bytes: int = 0
    campaign: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the last trial ended."""

    state: State
    image: Image
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The whole state; `left` counts the boots that the trial still has."""

    active: Image
    previous: Image | None = None
    trial: Image | None = None
    left: int = 0
    bad: Mapping[str, int] = field(default_factory=dict)  # release in hex: failed trials
    last: Outcome | None = None
    boots: int = 0

    @property
    def spare_slot(self) -> str:
        """The slot that may be overwritten."""
        return SLOTS[1] if self.active.slot == SLOTS[0] else SLOTS[0]

    @property
    def known_bad(self) -> frozenset[bytes]:
        """The releases that are not tried again."""
        return frozenset(bytes.fromhex(name) for name, n in self.bad.items() if n >= BAD_AFTER)


def slot_file(slot: str) -> str:
    """Return the name of a slot's file."""
    return f"slot-{slot}"


def image_of(release: Release, slot: str, campaign: str) -> Image:
    """Describe a release's image in a slot."""
    return Image(
        slot=slot,
        sequence=release.sequence,
        version=release.version,
        release=release.digest,
        digest=release.image_digest,
        image_bytes=release.chunks.image_bytes,
        campaign=campaign,
    )


def tried(record: Record, image: Image, boots: int) -> Record:
    """Have the next boots try this image."""
    return dataclasses.replace(record, trial=image, left=boots)


def booted(record: Record) -> tuple[Record, Image]:
    """Take one boot off a trial, and say what to run; a trial without boots left is over."""
    record = dataclasses.replace(record, boots=record.boots + 1)
    if record.trial is None:
        return record, record.active
    if record.left > 0:
        return dataclasses.replace(record, left=record.left - 1), record.trial
    return failed(record, "it did not prove itself in time"), record.active


def failed(record: Record, text: str, *, for_good: bool = False) -> Record:
    """Give a trial up and remember it; `for_good`: it need not be tried a second time."""
    trial = record.trial
    if trial is None:
        return record
    times = BAD_AFTER if for_good else record.bad.get(trial.release.hex(), 0) + 1
    return dataclasses.replace(
        record,
        trial=None,
        left=0,
        bad=_remember(record.bad, trial.release, times),
        last=Outcome(state="ROLLED_BACK", image=trial, text=text),
    )


def condemned(record: Record, release: bytes) -> Record:
    """Remember a release that cannot be right, before it was ever tried."""
    return dataclasses.replace(record, bad=_remember(record.bad, release, BAD_AFTER))


def _remember(bad: Mapping[str, int], release: bytes, times: int) -> dict[str, int]:
    kept = {name: n for name, n in bad.items() if name != release.hex()}
    newest = dict([*kept.items()][-(_BAD_MAX - 1) :])
    return newest | {release.hex(): times}


def proven(record: Record) -> Record:
    """Make the trial the active image, and its number the lowest that is ever accepted again."""
    trial = record.trial
    if trial is None:
        return record
    return dataclasses.replace(
        record,
        active=trial,
        previous=record.active,
        trial=None,
        left=0,
        last=Outcome(state="UPDATED", image=trial),
    )


def fallen_back(record: Record) -> Record:
    """Run the image before the active one, whose bytes have rotted; its number stays the floor."""
    previous = record.previous or Image(version=record.active.version)
    floor = max(previous.sequence, record.active.sequence)
    return dataclasses.replace(
        record,
        active=dataclasses.replace(previous, sequence=floor),
        previous=None,
        trial=None,
        left=0,
        last=Outcome(state="ROLLED_BACK", image=record.active, text="its bytes are damaged"),
    )


def encode(record: Record) -> bytes:
    """Encode; `decode` gives an equal record back."""
    return cbor.dumps({"v": _VERSION} | shape.to_plain(record))


def load(storage: Storage, *, version: str, sequence: int, where: str) -> Record:
    """Read the record, or begin one with what the device was made with.

    Raises:
        StorageError: when it is damaged or cannot be read.
    """
    data = storage.read(RECORD_FILE, 0, RECORD_BYTES_MAX + 1)
    if not data:
        return Record(active=Image(version=version, sequence=sequence))
    return decode(data, where)


def keep(storage: Storage, record: Record) -> None:
    """Replace the record, in one step."""
    put(storage, RECORD_FILE, encode(record))


def decode(data: bytes, where: str) -> Record:
    """Decode.

    Raises:
        StorageCorruptError: when it is none: then no update is taken, since what was the highest
            sequence number is not known.
    """

    def bad(text: str) -> StorageCorruptError:
        return StorageCorruptError(
            f"firmware record: {text}", where=where, remedy="set the device up anew"
        )

    table = cbor.loads(data, bytes_max=RECORD_BYTES_MAX, error=bad)
    if not isinstance(table, dict) or table.pop("v", None) != _VERSION:
        raise bad("is not one of this version")
    made: Record = shape.from_plain(Record, table, bad)
    return made
