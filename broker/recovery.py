"""Recovery: from what a sink has kept to a running engine, as if nothing had happened.

Each session learns where in the log its queue is, and which packet ids are taken; no message is
read before its client is there. The wills of connections that died with the broker are published.
"""

from collections import defaultdict

from plantroom.broker.engine import Engine
from plantroom.broker.retained import RetainedMessage
from plantroom.broker.runs import Origin, parse_one
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
            message = parse_one(retained.packet)
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
    _walk_on(engine, state)
    for will in state.wills:
        wills.recover(will)


def _restore_queues(engine: Engine, state: State) -> None:
    """Tell each session where its queue is; its messages stay on the disk until they are sent."""
    cursors = {cursor.sid: cursor for cursor in state.cursors}
    stored = dict(state.waiting)
    released: dict[int, set[int]] = defaultdict(set)
    finished: dict[int, set[int]] = defaultdict(set)
    for saved in state.released:
        (finished if saved.finished else released)[saved.sid].add(saved.ordinal)
    for client in engine.clients:
        sid = client.session.sid
        client.session.restore(
            cursors.get(sid, Cursor(sid, 0, 0, 0)),
            stored=stored.get(sid, 0),
            released=released[sid],
            finished=finished[sid],
        )
    engine.journal.passed.update(stored)
    engine.journal.grow(state.log_bytes)


def _walk_on(engine: Engine, state: State) -> None:
    """Send new subscribers what is left of what was retained when they came."""
    for walk in state.walks:
        client = engine.clients.by_sid(walk.sid)
        grant = client.subscriptions.get(walk.topic_filter) if client else None
        if client is not None and grant is not None:
            engine.walks.begin(client.session, walk.topic_filter, grant, behind=walk.topic)
