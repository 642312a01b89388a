from plantroom.broker.clients import Clients, grant_of, options, subscription_limit
from plantroom.broker.guard import ANONYMOUS
from plantroom.broker.journal import Journal
from plantroom.broker.memory import MemorySink
from plantroom.broker.runs import Receiver
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.sink import SessionDropped, SubscriptionSaved
from plantroom.broker.tree import Grant, Tree
from tests.broker.harness import JumpingClock

KEY = ("spiffe://a/b", "c")


def made(
    limits: BrokerLimits | None = None,
) -> tuple[Clients, Journal, Tree[Receiver], JumpingClock]:
    clock, tree = JumpingClock(), Tree[Receiver]()
    limits = limits or BrokerLimits()
    journal = Journal(MemorySink(), clock, depth_bytes_max=1000)
    clients = Clients(limits, clock, journal, tree)
    clients.start(3)
    return clients, journal, tree, clock


def test_session_numbers_carry_the_start_of_the_broker() -> None:
    clients, _, _, _ = made()
    assert clients.add(KEY, 0).session.sid == (3 << 32) + 1
    assert clients.get(KEY) is clients.by_sid((3 << 32) + 1)


def test_grants_are_stored_as_option_bytes() -> None:
    grant = Grant(qos=1, no_local=True, retain_as_published=True, identifiers=(9,))
    assert grant_of(options(grant), 9) == grant
    assert grant_of(options(Grant(qos=2)), 0) == Grant(qos=2)


def test_subscription_that_could_not_be_stored_is_as_it_was_before() -> None:
    clients, journal, tree, _ = made()
    client = clients.add(KEY, 60)
    assert clients.subscribe(client, "a", Grant(qos=0))
    assert not clients.subscribe(client, "a", Grant(qos=2, no_local=True))
    change, undo = journal.group.bound[-1]
    assert isinstance(change, SubscriptionSaved)
    assert undo is not None
    undo()
    assert client.subscriptions == {"a": Grant(qos=0)}
    assert client.no_local == 0
    first = journal.group.bound[0][1]
    assert first is not None
    first()
    assert tree.size == 0


def test_end_leaves_nothing() -> None:
    clients, journal, tree, _ = made()
    client = clients.add(KEY, 60)
    clients.subscribe(client, "a", Grant(qos=1))
    clients.end(client)
    clients.end(client)
    assert len(clients) == tree.size == 0
    assert journal.group.owed == [SessionDropped(sid=client.session.sid)]


def test_sessions_expire_only_without_a_connection() -> None:
    clients, _, _, clock = made()
    client = clients.add(KEY, 60)
    clock.jump(100)
    assert clients.expire() == 0
    client.ended_us = clock.wall_us()
    clock.jump(59)
    assert clients.expire() == 0
    clock.jump(2)
    assert clients.expire() == 1


def test_subscriptions_have_a_limit_for_all_together() -> None:
    limits = BrokerLimits(subscriptions_max=1)
    clients, _, tree, _ = made(limits)
    client = clients.add(KEY, 0)
    clients.subscribe(client, "a", Grant(qos=0))
    assert subscription_limit(client, "a", tree, limits) == ""
    assert subscription_limit(client, "b", tree, limits) == "subscriptions_max"


def test_sessions_have_a_limit_for_each_identity_and_for_all() -> None:
    clients, _, _, _ = made(BrokerLimits(sessions_max=3, identity_sessions_max=1))
    first = clients.add(KEY, 60)
    assert clients.full(KEY) == "", "its own may be resumed"
    assert clients.full((KEY[0], "other")) == "identity_sessions_max"
    clients.add((ANONYMOUS, "a"), 60)
    assert clients.full((ANONYMOUS, "b")) == "", "nobody is one identity"
    clients.add((ANONYMOUS, "b"), 60)
    assert clients.full(("spiffe://a/c", "c")) == "sessions_max"
    clients.end(first)
    assert clients.full((KEY[0], "other")) == ""
    assert KEY[0] not in clients._owned
