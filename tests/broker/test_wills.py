"""Last wills: when they are published, and when not."""

import asyncio

import pytest

from plantroom.broker.memory import MemorySink
from plantroom.broker.properties import Property
from plantroom.wire.policy import Question
from tests.broker.harness import DISCONNECT, JumpingClock, Rules, running, text, until

WILL = ("will/c", b"gone", 1, True)


@pytest.mark.parametrize("version", [4, 5])
def test_will_is_published_and_retained_when_the_connection_breaks(version: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r")
            await reader.subscribe(("will/#", 1))
            raw = await live.client("c", version=version, will=WILL)
            raw.cut()
            first, body = await reader.frame()
            assert first == 0x32
            assert body.startswith(text("will/c"))
            assert body.endswith(b"gone")
            late = await live.client("late")
            await late.subscribe(("will/#", 0))
            assert (await late.frame())[0] == 0x31

    asyncio.run(scenario())


def test_goodbye_takes_the_will_back() -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r")
            await reader.subscribe(("will/#", 1))
            raw = await live.client("c", will=WILL)
            raw.send(DISCONNECT)
            assert await raw.closed()
            assert await reader.silent()

    asyncio.run(scenario())


def test_disconnect_with_will_publishes_it() -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r")
            await reader.subscribe(("will/#", 1))
            raw = await live.client("c", version=5, will=WILL)
            raw.send(b"\xe0\x01\x04")
            assert (await reader.frame())[1].endswith(b"gone")

    asyncio.run(scenario())


def test_will_is_published_on_keepalive_timeout_and_on_takeover() -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r")
            await reader.subscribe(("will/#", 0))
            await live.client("c", will=WILL, keepalive_s=10)
            live.clock.jump(16)
            assert (await reader.frame())[1].endswith(b"gone")
            await live.client("c", will=WILL)
            await live.client("c")
            assert (await reader.frame())[1].endswith(b"gone")

    asyncio.run(scenario())


def test_will_delay_waits_and_a_return_cancels_it() -> None:
    async def scenario() -> None:
        options = {
            "version": 5,
            "clean": False,
            "properties": {Property.SESSION_EXPIRY: 1000},
            "will": WILL,
            "will_properties": {Property.WILL_DELAY: 60},
        }
        async with running() as live:
            reader = await live.client("r")
            await reader.subscribe(("will/#", 0))

            def away() -> bool:
                return any(not s.connected for s in live.broker.sessions())

            raw = await live.client("c", **options)
            raw.cut()
            await until(away)
            live.clock.jump(30)
            raw = await live.client("c", **options)
            live.clock.jump(40)
            assert await reader.silent()
            raw.cut()
            await until(away)
            live.clock.jump(61)
            assert (await reader.frame())[1].endswith(b"gone")

    asyncio.run(scenario())


def test_will_delay_ends_with_the_session() -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r")
            await reader.subscribe(("will/#", 0))
            raw = await live.client(
                "c", version=5, will=WILL, will_properties={Property.WILL_DELAY: 60}
            )
            raw.cut()
            assert (await reader.frame())[1].endswith(b"gone")

    asyncio.run(scenario())


def test_death_of_the_broker_publishes_the_wills_of_its_clients() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink) as live:
            await live.client("c", will=WILL)
            saved = sink._wills.copy()
            assert saved
        sink._wills = saved  # as a kill would have left it
        async with running(sink=sink) as live:
            late = await live.client("late")
            await late.subscribe(("will/#", 0))
            assert (await late.frame())[1].endswith(b"gone")
            assert not sink._wills

    asyncio.run(scenario())


def no_wills(question: Question) -> bool:
    return question.action == "publish"


@pytest.mark.parametrize("slow", [False, True])
def test_policy_is_asked_again_when_a_will_is_published(slow: bool) -> None:  # noqa: FBT001
    async def scenario() -> None:
        rules, sink = Rules(), MemorySink()
        async with running(decisions=rules, sink=sink) as live:
            reader = await live.client("r")
            await reader.subscribe(("will/#", 1))
            raw = await live.client("c", will=WILL)
            rules.change(no_wills)
            rules.slow = slow
            raw.cut()
            await until(lambda: len(live.broker.sessions()) == 1)
            await until(lambda: [q for q in rules.asked if q.action == "publish"][1:])
            assert await reader.silent()
            assert list(live.broker.retained("#")) == []
            await until(lambda: not sink._wills)

    asyncio.run(scenario())


def test_slow_policy_allows_a_will_when_it_answers() -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(decisions=rules) as live:
            reader = await live.client("r")
            await reader.subscribe(("will/#", 0))
            raw = await live.client("c", will=WILL)
            rules.change(lambda _: False)
            rules.slow = True
            raw.cut()
            assert (await reader.frame())[1].endswith(b"gone")

    asyncio.run(scenario())


def test_farewell_is_published_although_rights_are_withdrawn() -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(decisions=rules, farewells=("will/+",)) as live:
            reader = await live.client("r")
            await reader.subscribe(("will/#", 0))
            await live.client("c", will=WILL)
            rules.change(lambda question: question.client_id == "c")  # it is cut off as well
            assert (await reader.frame())[1].endswith(b"gone")

    asyncio.run(scenario())


def test_policy_is_asked_about_the_wills_that_outlive_the_broker() -> None:
    async def scenario() -> None:
        sink, rules = MemorySink(), Rules()
        async with running(sink=sink) as live:
            await live.client("c", will=WILL)
            saved = sink._wills.copy()
        sink._wills = saved  # as a kill would have left it
        sink._retained.clear()
        rules.denied = no_wills
        async with running(sink=sink, decisions=rules, clock=JumpingClock()) as live:
            assert list(live.broker.retained("#")) == []
            assert [question.topic for question in rules.asked] == ["will/c"]
            await until(lambda: not sink._wills)

    asyncio.run(scenario())


def test_will_does_not_come_back_to_a_client_that_does_not_want_its_own() -> None:
    # [MQTT-3.8.3-3]
    async def scenario() -> None:
        async with running() as live:
            properties = {Property.SESSION_EXPIRY: 100}
            watcher = await live.client("w")
            await watcher.subscribe(("gone/#", 1))
            will = ("gone/c", b"x", 1, False)
            raw = await live.client("c", version=5, properties=properties, will=will)
            assert await raw.subscribe(("gone/#", 0b101)) == b"\1"
            raw.cut()
            assert (await watcher.frame())[0] == 0x32
            raw = await live.client("c", version=5, clean=False, properties=properties)
            assert await raw.silent()

    asyncio.run(scenario())
