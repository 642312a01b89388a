"""Recovery: from what a sink has kept to a running engine, as if nothing had happened.

Messages that were stored but not acknowledged are queued again under their packet ids, segments
that nobody needs are found, and the wills of connections that died with the broker are published.
"""

from plantroom.broker import segments
from plantroom.broker.clients import Client
from plantroom.broker.engine import Engine, RetainedMessage
from plantroom.broker.packets import V5
from plantroom.broker.runs import Origin, Run, Segment, parse
from plantroom.broker.sink import Cursor, State
from plantroom.broker.wills import Wills


def recover(engine: Engine, wills: Wills, state: State) -> None:
    """Fill a new engine."""
    clients = engine.clients
    clients.start(state.boot)
    now_us = engine.clock.wall_us()
    for saved in state.sessions:
        client = clients.add((saved.spiffe_id, saved.client_id), saved.expiry_s, sid=saved.sid)
        client.session.durable = True
        client.ended_us = saved.ended_at_us if saved.ended_at_us is not None else now_us
        if saved.ended_at_us is None:
            clients.save(client, stored=True)
    for subscription in state.subscriptions:
        clients.restore_subscription(subscription)
    for retained in state.retained:
        if retained.packet is not None:
            (message,) = parse(retained.packet, V5)
            engine.retained.put(
                retained.topic,
                RetainedMessage(
                    message=message,
                    origin=Origin(0, retained.publisher, ""),
                    at_us=retained.at_us,
                    volatile=False,
                ),
            )
    for incoming in state.incoming:
        found = clients.by_sid(incoming.sid)
        if found is not None:
            found.session.incoming.add(incoming.packet_id)
    _restore_queues(engine, state)
    clients.expire()
    for will in state.wills:
        wills.recover(will)


def _restore_queues(engine: Engine, state: State) -> None:
    cursors = {cursor.sid: cursor for cursor in state.cursors}
    released: dict[int, set[int]] = {}
    for saved in state.released:
        released.setdefault(saved.sid, set()).add(saved.ordinal)
    for client in engine.clients:
        cursor = cursors.get(client.session.sid)
        if cursor is not None:
            client.session.restore(cursor)
    for number, tapped, data in state.segments:
        segment = Segment(number, tapped=tapped)
        engine.journal.segments[number] = segment
        for stored in segments.unpack(data):
            _restore_run(engine, stored, segment, cursors, released)


def _restore_run(
    engine: Engine,
    stored: segments.StoredRun,
    segment: Segment,
    cursors: dict[int, Cursor],
    released: dict[int, set[int]],
) -> None:
    waiting = [(engine.clients.by_sid(entry.sid), entry) for entry in stored.waiting]
    run = Run(
        stored.origin,
        stored.data,
        version=stored.version,
        match=engine.tree.nobody,
        at_us=stored.at_us,
        qos=stored.qos,
        count=stored.count,
        tapped=stored.tapped,
        retained=stored.retained,
    )
    run.segment = segment
    for client, entry in waiting:
        if isinstance(client, Client):
            sid = client.session.sid
            client.session.restore_run(
                run,
                entry.grant,
                entry.qos,
                entry.ordinal,
                cursor=cursors.get(sid, Cursor(sid, 0, 0, 0)),
                released=released.get(sid, set()),
            )
