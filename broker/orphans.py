"""Orphans: what a member of a shared subscription has not got when its session ends.

It goes to another member (MQTT 5.0 4.8.2): of QoS 1 all that is not acknowledged, of QoS 2 what was
not sent, because that which was may have arrived [MQTT-4.8.2-5]. What is refused, is not sent again
[MQTT-4.8.2-6]. A durable session has its queue in the log, and it ends with it.
"""

from collections.abc import Iterator

from plantroom.broker.runs import Receiver, Run, canonical
from plantroom.broker.session import Session
from plantroom.broker.tree import Match


def orphans(session: Session) -> list[Run]:
    """Return what has to be published again, to the shares alone, once the session has ended."""
    return [
        run
        for part in session.remaining()
        if part.qos == 1 or not part.dup
        for share in part.run.match.shares
        if share.members.get(session) is part.grant  # not for a subscription of its own
        for run in _again(part.run, part.first, part.count, Match((), (share,)))
    ]


def _again(run: Run, first: int, count: int, match: Match[Receiver]) -> Iterator[Run]:
    for message in run.messages()[first : first + count]:
        yield Run(
            run.origin,
            canonical(message, run.version),
            version=run.version,
            match=match,
            at_us=run.at_us,
            qos=message.qos,
            volatile=run.volatile,
        )
