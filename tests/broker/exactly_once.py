"""A client that keeps its half of QoS 1 and 2 through every loss of connection, and counts."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from tests.broker.harness import Raw, publish, subscribe

_PUBACK, _PUBREC, _PUBREL, _PUBCOMP = 0x40, 0x50, 0x62, 0x70


def frame(first: int, number: int) -> bytes:
    return bytes((first, 2)) + number.to_bytes(2, "big")


async def connected(port: int, client_id: str, *, present: bool | None = None) -> Raw:
    """Connect to a session that is kept, and (where that is known) was."""
    raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
    try:
        first, body = await raw.connect(client_id, clean=False)
        assert (first, body[1]) == (0x20, 0)
        assert present is None or bool(body[0]) is present, "session present"
    except BaseException:
        raw.cut()  # the broker was killed in the middle of it
        raise
    return raw


@dataclass(slots=True)
class Publisher:
    """Sends each message until it is answered; every second one at QoS 2."""

    window: int = 20
    sent: int = 0
    open: dict[int, tuple[bytes, int]] = field(default_factory=dict)  # by packet id, in order
    released: set[int] = field(default_factory=set)
    done: dict[int, set[bytes]] = field(default_factory=lambda: {1: set(), 2: set()})

    async def run(self, port: int, count: int) -> None:
        """Send what is open, then `count` new messages, until all are answered."""
        raw = await connected(port, "publisher")
        try:
            for number, (payload, qos) in self.open.items():
                if number in self.released:
                    raw.send(frame(_PUBREL, number))
                else:
                    raw.publish("a/b", payload, qos=qos, packet_id=number, dup=True)
            while count or self.open:
                while count and len(self.open) < self.window:
                    self._send(raw)
                    count -= 1
                self._take(raw, *await raw.frame())
        finally:
            raw.cut()

    def _send(self, raw: Raw) -> None:
        number = self.sent % 60_000 + 1
        qos = 1 + self.sent % 2
        payload = b"m%07d" % self.sent
        self.sent += 1
        self.open[number] = payload, qos
        raw.send(publish("a/b", payload, qos=qos, packet_id=number))

    def _take(self, raw: Raw, first: int, body: bytes) -> None:
        number = int.from_bytes(body[:2], "big")
        if first == _PUBREC:
            self.released.add(number)
            raw.send(frame(_PUBREL, number))
        elif number in self.open:
            assert first in {_PUBACK, _PUBCOMP}
            payload, qos = self.open.pop(number)
            self.released.discard(number)
            self.done[qos].add(payload)


@dataclass(slots=True)
class Receiver:
    """Counts what it is given; QoS 2 by the rules of method B of 4.3.3."""

    got: Counter[bytes] = field(default_factory=Counter)
    incoming: set[int] = field(default_factory=set)
    subscribed: bool = False

    async def run(self, port: int) -> None:
        """Take what comes until the connection ends."""
        raw = await connected(port, "receiver", present=True if self.subscribed else None)
        try:
            if not self.subscribed:
                raw.send(subscribe(("a/#", 2)))
                assert await raw.frame() == (0x90, b"\0\1\2")
                self.subscribed = True
            while True:
                raw.send(self._take(*await raw.frame(timeout_s=None)))
        finally:
            raw.cut()

    def _take(self, first: int, body: bytes) -> bytes:
        if first == _PUBREL:
            number = int.from_bytes(body[:2], "big")
            self.incoming.discard(number)
            return frame(_PUBCOMP, number)
        assert first >> 4 == 3, hex(first)
        qos, at = first >> 1 & 3, 2 + int.from_bytes(body[:2], "big")
        number, payload = int.from_bytes(body[at : at + 2], "big"), body[at + 2 :]
        if qos == 1:
            self.got[payload] += 1
            return frame(_PUBACK, number)
        if number not in self.incoming:
            self.incoming.add(number)
            self.got[payload] += 1
        return frame(_PUBREC, number)
