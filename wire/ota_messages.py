"""What devices, gateways and the cloud say to each other about updates: CBOR maps, version 1.

A chunk itself is its bytes alone; whoever receives it holds the digest that it must have.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from plantroom.wire import cbor, shape
from plantroom.wire.errors import EnvelopeError
from plantroom.wire.firmware import DIGEST_BYTES
from plantroom.wire.ota_states import STATES, State

VERSION = 1
MESSAGE_BYTES_MAX = 16 * 1024
WANTED_MAX = 64
TEXT_CHARACTERS_MAX = 500
STATUS = "status"  # the last level of a chunk topic that carries a ChunkStatus
GATEWAY_IMAGES = "gateway"  # the device name under which a gateway asks the cloud for chunks

Serving = Literal["later", "gone"]
Order = Literal["install", "cancel", "none"]
M = TypeVar("M")


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """A request for chunks of an image, on `ota/{device}/get`."""

    image: bytes
    chunk_bytes: int
    wanted: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.image) != DIGEST_BYTES or not 0 < len(self.wanted) <= WANTED_MAX:
            raise EnvelopeError(f"a request names an image and 1 to {WANTED_MAX} chunks")
        if not 0 < self.chunk_bytes < 2**31 or not all(0 <= one < 2**31 for one in self.wanted):
            raise EnvelopeError("chunk_bytes or a chunk's number is out of range")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkStatus:
    """Why no chunk comes, on `ota/{device}/chunk/status`; `gone` is final."""

    image: bytes
    status: Serving
    retry_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """A campaign's word to one device, on `ota/{device}/assign`; `version` only rises.

    `release` is the manifest's digest; `jitter_s` spreads the start by the device's name;
    a device past VERIFIED finishes whatever is said here.
    """

    version: int
    order: Order
    campaign: str = ""
    release: bytes = b""
    not_before_s: int = 0
    not_after_s: int = 0
    jitter_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Where an update of one device stands, on `ota/{device}/state`; `number` only rises.

    `code` explains WAITING, FAILED and REJECTED; `running_…` is what runs as this is said.
    """

    number: int
    state: State
    at_us: int | None = None
    code: str = ""
    text: str = ""
    campaign: str = ""
    release: bytes = b""
    sequence: int = 0
    version: str = ""
    chunks: int = 0
    chunks_done: int = 0
    running_sequence: int = 0
    running_version: str = ""
    running_digest: bytes = b""

    def __post_init__(self) -> None:
        if self.state not in STATES or len(self.text) > TEXT_CHARACTERS_MAX:
            raise EnvelopeError("state is not known, or its text is too long")


Kind = Get | ChunkStatus | Assign | Report


def encode(message: Kind) -> bytes:
    """Encode; `decode` gives an equal message back."""
    return cbor.dumps({"v": VERSION} | shape.to_plain(message))


def decode(data: bytes, kind: type[M]) -> M:
    """Decode the message of a topic: which one it is follows from the topic.

    Raises:
        EnvelopeError: when it is not of its form; the text names the field.
    """
    if kind not in get_args(Kind):
        raise EnvelopeError(f"{kind.__name__} is no message of updates")
    table = cbor.loads(data, bytes_max=MESSAGE_BYTES_MAX, error=EnvelopeError)
    if not isinstance(table, dict) or table.pop("v", None) != VERSION:
        raise EnvelopeError(f"not a map of version {VERSION}")
    made: M = shape.from_plain(kind, table, EnvelopeError)
    return made
