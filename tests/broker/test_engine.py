import asyncio

from plantroom.broker.engine import Engine
from plantroom.broker.memory import MemorySink
from plantroom.broker.packets import Publish
from plantroom.broker.runs import Origin
from plantroom.broker.settings import BrokerLimits
from plantroom.wire.errors import StorageFullError
from tests.broker.harness import JumpingClock, running, until

ORIGIN = Origin(1, "spiffe://a/b", "c")


def engine() -> Engine:
    return Engine(
        limits=BrokerLimits(),
        sink=MemorySink(),
        decisions=None,
        clock=JumpingClock(),
        taps=("t/#",),
        volatile=("v/+",),
    )


def test_kinds_of_topics() -> None:
    found = engine()
    assert found.kind("t/a/b") == (True, False)
    assert found.kind("v/a") == (False, True)
    assert found.kind("$SYS/broker/uptime") == (False, True)


def test_generation_changes_with_subscriptions_and_holding() -> None:
    found = engine()
    before = found.generation
    stop = found.watch("a", lambda _message, _who: None)
    subscribed = found.generation
    assert subscribed != before
    stop()
    assert found.generation != subscribed
    held = found.generation
    found.set_hold(0x97)
    assert found.generation != held


def test_retained_value_comes_back_when_it_could_not_be_stored() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink) as live:
            raw = await live.client(version=5)
            raw.publish("r", b"kept", retain=True, packet_id=1)
            await raw.acknowledged(1)
            sink.fault = StorageFullError("no space left")
            raw.publish("r", b"lost", retain=True, packet_id=2)
            assert (await raw.frame())[1] == b"\0\2\x97"
            sink.fault = None
            await until(lambda: live.broker._engine.retained.get("r"))
            await raw.subscribe(("r", 0))
            assert (await raw.frame())[1].endswith(b"kept")

    asyncio.run(scenario())


def test_publish_without_receivers_is_in_the_group_and_addressed_to_nobody() -> None:
    found = engine()
    found.publish(ORIGIN, Publish(topic="a", payload=b"x"))
    (run,) = found.journal.group.items
    assert run.match.empty  # type: ignore[union-attr]
