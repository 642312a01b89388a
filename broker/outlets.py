"""Outlets: what the rest of the broker needs of a connection, and a connection of it."""

from typing import Protocol, TypeVar

from plantroom.broker.guard import Peer
from plantroom.broker.packets import Packet
from plantroom.broker.turns import DISK, Waiting

C_contra = TypeVar("C_contra", contravariant=True)


class Outlet(Protocol):
    """A connection, seen from inside."""

    peer: Peer
    open: bool
    accepted: bool
    blocked: bool

    @property
    def unread_bytes(self) -> int:
        """How much the client has not read."""
        ...

    @property
    def partial_bytes(self) -> int:
        """How much is kept of a packet that has not come whole."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes, if still connected."""
        ...

    def write_burst(self, data: bytes) -> None:
        """Send what was queued: the client may take its time to read that much."""
        ...

    def too_slow(self, why: str, limit: str) -> None:
        """Cut off a client that does not take what it gets."""
        ...

    def acknowledged(self, count: int) -> None:
        """So many publishes were acknowledged."""
        ...

    def refused(self, acknowledgements: bytes) -> None:
        """Do not send these: what they would have acknowledged was not stored."""
        ...

    def fail(self, code: int, reason: str) -> None:
        """Close with a reason."""
        ...

    def abort(self, reason: str) -> None:
        """Close at once."""
        ...

    def overdue(self, now_us: int) -> str | None:
        """Say why it has to be closed now, or None."""
        ...


class Reader(Outlet, Waiting, Protocol):
    """A connection that can be told not to read."""

    def wait(self, why: int = DISK) -> bool:
        """Read no further until `resume`; say whether that is new."""
        ...


class Handler(Protocol[C_contra]):
    """Who knows what packets mean."""

    def connect(self, connection: C_contra, data: bytes, start: int, end: int) -> None:
        """Handle the first packet."""
        ...

    def packet(self, connection: C_contra, packet: Packet, raw: bytes) -> None:
        """Handle any other packet; `raw`: its bytes, empty where they are not to be passed on."""
        ...

    def connection_ended(self, connection: C_contra) -> None:
        """Take a client that is gone off its session."""
        ...

    def suspend(self, connection: C_contra) -> None:
        """Get what the connection waits for decided, then let it go on."""
        ...
