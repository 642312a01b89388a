"""Batches to bytes: rows become columns and are compressed, on a thread of their own."""

from plantroom.gateway import stored
from plantroom.gateway.lanes import Flight
from plantroom.gateway.line import Taken
from plantroom.wire import envelope
from plantroom.wire.envelope import Batch


def pack(incarnation: int, flight: Flight, taken: Taken) -> bytes:
    """Return the batch as it travels; the same batch always has the same bytes."""
    batch = Batch(
        incarnation=incarnation,
        number=flight.number,
        lane=flight.lane,
        notes=taken.told,
        heads=taken.heads,
    )
    return envelope.encode_batch(batch, list(map(stored.fields, taken.bodies)))
