"""One buffer for whatever is read, by all connections of a loop in turn.

The event loops' TLS allocates 256 KiB for each read of an ordinary protocol and gives back all but
what came. That leaves the heap full of holes: a gateway's grew by 20 MB an hour, and a cloud's.
"""

import asyncio
import threading


class _Lent(threading.local):
    """A loop fills it and hands it over in one step; a loop in another thread has its own."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(256 * 1024))


_LENT = _Lent()


class _Gone(asyncio.Transport):
    """Does nothing, and holds nothing."""

    def abort(self) -> None: ...
    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


# What a connection that is lost has in place of its transport. The loops' TLS keeps the methods
# below, and with them the protocol: the three would stay, with all the memory of OpenSSL, until the
# collector comes.
GONE = _Gone()


class OneBuffer(asyncio.BufferedProtocol):
    """A protocol that is given `data_received`, as an ordinary one is."""

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- it is large enough
        """Lend the buffer until `buffer_updated`."""
        return _LENT.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(bytes(_LENT.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        raise NotImplementedError
