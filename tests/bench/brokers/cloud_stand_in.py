"""A stand-in for the cloud, in a process of its own: it stores everything at once.

Frames on stdin, one answer on stdout for each: how many readings it gives a receipt for and how
long it is (two 32-bit numbers, in the machine's order), then the receipt or welcome.
"""

import struct
import sys
from itertools import groupby
from typing import Final

from plantroom.wire import envelope
from plantroom.wire.envelope import Batch, Hello, Receipt, Span, Welcome

FRAME: Final = struct.Struct("=I")
ANSWER: Final = struct.Struct("=II")


def main() -> None:
    """Answer until stdin ends."""
    commits = 0
    while head := sys.stdin.buffer.read(FRAME.size):
        commits += 1
        payload = sys.stdin.buffer.read(FRAME.unpack(head)[0])
        said = envelope.decode(payload, Batch, Hello)
        count = 0 if isinstance(said, Hello) else len(said.readings)
        answer = _welcome(said, commits) if isinstance(said, Hello) else _receipt(said, commits)
        data = envelope.encode(answer)
        sys.stdout.buffer.write(ANSWER.pack(count, len(data)) + data)
        sys.stdout.buffer.flush()


def _welcome(hello: Hello, commits: int) -> Welcome:
    return Welcome(
        incarnation=hello.incarnation, number=hello.number, store_id="stand-in", commit=commits
    )


def _receipt(batch: Batch, commits: int) -> Receipt:
    keys = sorted((one.device, one.epoch, one.seq) for one in batch.readings)
    spans = []
    for _, run in groupby(enumerate(keys), lambda item: (*item[1][:2], item[1][2] - item[0])):
        seqs = [key for _, key in run]
        device, epoch, first = seqs[0]
        spans.append(Span(device=device, epoch=epoch, first=first, last=seqs[-1][2]))
    return Receipt(
        incarnation=batch.incarnation,
        number=batch.number,
        store_id="stand-in",
        commit=commits,
        stored=tuple(spans),
        notes=tuple((note.author, note.life, note.number) for note in batch.notes),
    )


if __name__ == "__main__":
    main()
