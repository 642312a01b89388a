import asyncio
from typing import Any

import pytest

from plantroom.gateway.crossing import Upward
from plantroom.gateway.exchange import Exchange
from plantroom.wire.errors import RefusedError, UnreachableError
from plantroom.wire.link import Message

SITE, DOMAIN = "building-1", "building-1.smart.local"


class FakeLink:
    def __init__(self) -> None:
        self.filters: list[str] = []
        self.published: list[Message] = []
        self.refused = ""
        self.dead = False

    async def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        del qos
        if self.refused and self.refused in topic_filter:
            raise RefusedError("no", reason="acl", where=topic_filter)
        self.filters.append(topic_filter)

    async def publish(self, message: Message) -> int:
        if self.dead:
            raise UnreachableError("gone")
        self.published.append(message)
        return 0


def make(link: Any, delivered: list[Message]) -> tuple[Exchange, Upward]:
    async def deliver(message: Message) -> None:
        delivered.append(message)

    upward = Upward(site=SITE, trust_domain=DOMAIN, own_publisher="us")
    exchange = Exchange(link, upward, site=SITE, trust_domain=DOMAIN, deliver=deliver)
    return exchange, upward


def test_one_refused_filter_does_not_keep_the_others_from_crossing(caplog: Any) -> None:
    link = FakeLink()
    link.refused = "policy"
    exchange, _ = make(link, [])
    asyncio.run(exchange.subscribe())
    assert "v1/building-1/twin/+/desired" in link.filters
    assert "does not cross downwards" in caplog.text


def test_a_devices_call_to_a_cloud_service_asks_for_its_reply_first(lab: Any) -> None:
    async def scenario() -> None:
        link = FakeLink()
        exchange, upward = make(link, [])
        call = Message(topic="v1/building-1/call/ota/check_update/hvac-001", payload=b"c")
        upward.offer(call, "them")
        upward.offer(call, "them")
        stage = asyncio.create_task(exchange.run())
        await lab.until(lambda: len(link.published) == 2)
        stage.cancel()
        await asyncio.gather(stage, return_exceptions=True)
        assert link.filters == ["v1/building-1/reply/hvac-001/+"]

    asyncio.run(scenario())


def test_what_was_not_acknowledged_goes_on_the_next_link() -> None:
    async def scenario() -> None:
        link = FakeLink()
        link.dead = True
        exchange, upward = make(link, [])
        reply = Message(topic="v1/building-1/reply/cloud:operator:ann/1", payload=b"r")
        upward.offer(reply, "them")
        with pytest.raises(UnreachableError):
            await exchange.run()
        assert await upward.take() == reply

    asyncio.run(scenario())


def test_only_what_crosses_downwards_is_delivered() -> None:
    delivered: list[Message] = []
    exchange, _ = make(FakeLink(), delivered)
    for topic in ("twin/hvac-001/desired", "presence/hvac-001", "telemetry/hvac-001"):
        asyncio.run(exchange.down(Message(topic=f"v1/building-1/{topic}", payload=b"x")))
    assert [message.topic for message in delivered] == ["v1/building-1/twin/hvac-001/desired"]
