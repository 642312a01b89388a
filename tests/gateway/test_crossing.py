import asyncio
from typing import Any

import pytest

from plantroom.gateway.crossing import Upward, direction, downward_filters, upward_filters
from plantroom.wire import topics
from plantroom.wire.link import Message

SITE, DOMAIN = "building-1", "building-1.smart.local"


@pytest.mark.parametrize(
    ("topic", "way"),
    [
        ("v1/building-1/telemetry/hvac-001", None),
        ("v1/building-1/presence/hvac-001", "up"),
        ("v1/building-1/twin/hvac-001/desired", "down"),
        ("v1/building-1/twin/hvac-001/reported", "up"),
        ("v1/building-1/alarm/hot/hvac-001", "up"),
        ("v1/building-1/ota/gateway/get", "up"),
        ("v1/building-1/ota/gateway/chunk/7", "down"),
        ("v1/building-1/ota/hvac-001/get", None),
        ("v1/building-1/ota/hvac-001/chunk/7", None),
        ("v1/building-2/ota/gateway/get", None),
        ("v1/building-1/call/hvac-001/read_sensors/cloud:operator:ann", "down"),
        ("v1/building-1/call/hvac-001/read_sensors/gateway", None),
        ("v1/building-1/call/ota/check_update/hvac-001", "up"),
        ("v1/building-1/call/ota/check_update/cloud:operator:ann", None),
        ("v1/building-1/reply/cloud:operator:ann/17", "up"),
        ("v1/building-1/reply/hvac-001/17", "down"),
        ("v1/building-1/denylist/building-1.smart.local", "up"),
        ("v1/building-1/denylist/smart-building.cloud", "down"),
        ("v1/building-1/bundle/building-1.smart.local", "up"),
        ("v1/building-1/policy", "down"),
        ("v1/building-1/ota/head", "down"),
        ("v1/building-1/uplink/gateway/live", None),
        ("v1/building-1/receipt/gateway", None),
        ("v1/building-1/view/hvac-001/temperature", None),
        ("v1/building-2/presence/hvac-001", None),
    ],
)
def test_the_topic_alone_says_which_way_it_crosses(topic: str, way: str | None) -> None:
    assert direction(topics.parse(topic), site=SITE, trust_domain=DOMAIN) == way


def test_telemetry_and_the_bridges_own_topics_are_in_no_filter() -> None:
    for filters in (upward_filters(SITE), downward_filters(SITE)):
        assert all(one.startswith(f"v1/{SITE}/") for one in filters)
        assert not any(
            word in one for one in filters for word in ("telemetry", "uplink", "receipt", "refill")
        )


def upward() -> Upward:
    return Upward(site=SITE, trust_domain=DOMAIN, own_publisher="bridge")


def offer(queue: Upward, topic: str, payload: bytes = b"x", publisher: str = "them") -> None:
    queue.offer(Message(topic=topic, payload=payload), publisher)


def test_alarms_go_first_then_replies() -> None:
    async def scenario() -> None:
        queue = upward()
        offer(queue, "v1/building-1/presence/hvac-001")
        offer(queue, "v1/building-1/call/ota/check_update/hvac-001")
        offer(queue, "v1/building-1/reply/cloud:operator:ann/17")
        offer(queue, "v1/building-1/alarm/hot/hvac-001")
        order = [topics.parse((await queue.take()).topic).pattern for _ in range(4)]
        queue.resync()
        again = [topics.parse((await queue.take()).topic).pattern for _ in range(2)]
        assert again == ["alarm/{rule}/{device}", "presence/{device}"]
        assert order == [
            "alarm/{rule}/{device}",
            "reply/{caller}/{id}",
            "call/{target}/{capability}/{caller}",
            "presence/{device}",
        ]

    asyncio.run(scenario())


def test_what_came_from_the_cloud_does_not_go_back() -> None:
    queue = upward()
    offer(queue, "v1/building-1/presence/hvac-001", publisher="bridge")
    offer(queue, "v1/building-1/presence/gateway")
    offer(queue, "not/a/topic")
    queue.resync()
    assert not queue._retained


def test_of_a_retained_topic_only_the_newest_is_told_and_told_again_at_connect() -> None:
    async def scenario() -> None:
        queue = upward()
        offer(queue, "v1/building-1/presence/hvac-001", b"old")
        offer(queue, "v1/building-1/presence/hvac-001", b"new")
        message = await queue.take()
        assert (message.payload, message.retain) == (b"new", True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.take(), 0.01)
        queue.put_back(message)
        assert (await queue.take()).payload == b"new"
        queue.resync()
        assert (await queue.take()).payload == b"new"

    asyncio.run(scenario())


def test_calls_beyond_the_bound_are_dropped_and_counted() -> None:
    async def scenario() -> None:
        queue = upward()
        for n in range(1_003):
            offer(queue, "v1/building-1/call/ota/check_update/hvac-001", str(n).encode())
        assert queue.dropped == 3
        assert (await queue.take()).payload == b"3"

    asyncio.run(scenario())


def test_a_call_waits_for_a_link_that_comes_back(lab: Any) -> None:
    async def scenario() -> None:
        queue = upward()
        offer(queue, "v1/building-1/call/ota/check_update/hvac-001")
        message = await queue.take()
        queue.put_back(message)
        assert await queue.take() is message

    del lab
    asyncio.run(scenario())
