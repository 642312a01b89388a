from typing import Any

from plantroom.gateway.answers import Sent
from plantroom.gateway.lanes import Lanes
from plantroom.gateway.line import Taken
from plantroom.gateway.packing import pack
from plantroom.wire import envelope
from plantroom.wire.envelope import Batch


def test_a_batch_travels_whole_and_always_as_the_same_bytes(lab: Any) -> None:
    readings = [lab.reading(n) for n in range(20)]
    rows = tuple(Sent(n, 1, lab.device(), 7, n) for n in range(20))
    heads = {lab.device(): {7: 99}}
    taken = Taken(rows=rows, bodies=tuple(one.canonical() for one in readings), heads=heads)
    flight = Lanes().launch("backfill", rows)
    payload = pack(42, flight, taken)
    assert payload == pack(42, flight, taken)
    assert envelope.batch_name(payload) == (42, 0)
    batch: Batch = envelope.decode(payload, Batch)
    assert batch.readings == tuple(readings)
    assert (batch.lane, batch.heads) == ("backfill", heads)
