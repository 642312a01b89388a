"""Rights that are withdrawn: a subscription goes, and with it what waits for its client.

What was sent under the right may be completed; what waits in memory or in the log is not sent. Of
a queue that comes from a former life of the broker nobody knows whether a right was withdrawn, so
it is compared with the subscriptions that there are now.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from plantroom.broker.backlog import Stored
from plantroom.broker.clients import Client, Clients
from plantroom.broker.deliveries import Delivery, cost
from plantroom.broker.runs import Receiver
from plantroom.broker.session import Session
from plantroom.broker.tree import Tree

Wanted = Callable[[str], bool]


def withdraw(clients: Clients, tree: Tree[Receiver], client: Client, topic_filter: str) -> None:
    """Drop a subscription, and what it has put into its client's queue."""
    clients.unsubscribe(client, topic_filter)
    session = client.session
    session.backlog.doubtful = session.backlog.behind
    if session.pending:
        session.pending = deque(_kept(session.pending, wanted_by(tree, session)))
        session.pending_bytes = sum(cost(part.run, part.count) for part in session.pending)


def wanted_by(tree: Tree[Receiver], session: Session) -> Wanted:
    """Return what says whether a session has a subscription for a topic."""
    known: dict[str, bool] = {}

    def wanted(topic: str) -> bool:
        found = known.get(topic)
        if found is None:
            match = tree.match(topic)
            found = any(receiver is session for receiver, _ in match.entries) or any(
                session in share.members for share in match.shares
            )
            known[topic] = found
        return found

    return wanted


def unwanted(runs: Iterable[Stored], since: int, wanted: Wanted) -> frozenset[int]:
    """Return the ordinals from `since` on of messages that their session is not to get."""
    return frozenset(
        ordinal
        for run, _, _, first in runs
        for ordinal, message in enumerate(run.messages(), first)
        if ordinal >= since and not wanted(message.topic)
    )


def _kept(pending: Iterable[Delivery], wanted: Wanted) -> Iterator[Delivery]:
    for part in pending:
        messages = part.run.messages()[part.first : part.first + part.count]
        keeps = [part.dup or wanted(message.topic) for message in messages]
        if all(keeps):
            yield part
        else:
            yield from (part.part(n, 1, dup=part.dup) for n, keep in enumerate(keeps) if keep)
