import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plantroom.lab import calling, tools
from plantroom.lab.building import OPERATOR_ID
from plantroom.lab.calling import Asked
from plantroom.lab.layout import Layout
from plantroom.wire import envelope
from plantroom.wire.envelope import Call, Reply
from plantroom.wire.errors import CheckFailedError, RefusedError, UnreachableError
from plantroom.wire.link import Message
from plantroom.wire.spiffe import SpiffeId

HVAC = SpiffeId.parse("spiffe://building-1.smart.local/agent/hvac-001")
Answer = Callable[[Call], list[Reply]]


class ScriptedLink:
    """A link whose other side answers as a test says."""

    def __init__(self, answer: Answer, code: int) -> None:
        self._answer, self._code = answer, code
        self._replies: asyncio.Queue[Message] = asyncio.Queue()
        self.subscribed: list[str] = []
        self.sent: list[Message] = []

    async def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        assert qos == 1
        self.subscribed.append(topic_filter)

    async def publish(self, message: Message) -> int:
        self.sent.append(message)
        for reply in self._answer(envelope.decode(message.payload, Call)):
            payload = envelope.encode(reply)
            self._replies.put_nowait(Message(topic=self.subscribed[0], payload=payload))
        return self._code

    async def messages(self) -> AsyncIterator[Message]:
        while True:
            yield await self._replies.get()


@pytest.fixture
def call(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, ScriptedLink]]:
    def calling_with(answer: Answer, *, code: int = 0, timeout_s: float = 5.0) -> Any:
        made: list[ScriptedLink] = []

        @asynccontextmanager
        async def connected(
            *_: object, **__: object
        ) -> AsyncIterator[tuple[ScriptedLink, SpiffeId]]:
            made.append(ScriptedLink(answer, code))
            yield made[0], OPERATOR_ID

        monkeypatch.setattr(tools, "connected", connected)
        asked = Asked(target=HVAC, capability="read_sensors", data={"a": 1}, timeout_s=timeout_s)
        return asyncio.run(calling.call(layout, asked)), made[0]

    return calling_with


def test_the_answer_to_this_call_is_returned(call: Any) -> None:
    data, link = call(lambda asked: [Reply(id="another"), Reply(id=asked.id, data={"b": 2})])
    assert data == {"b": 2}
    (sent,) = link.sent
    assert sent.topic == "v1/building-1/call/hvac-001/read_sensors/cloud:operator:local"
    asked = envelope.decode(sent.payload, Call)
    assert [asked.reply_to] == link.subscribed == [sent.response_topic]
    assert asked.reply_to == f"v1/building-1/reply/cloud:operator:local/{asked.id}"
    assert (asked.data, asked.idempotency_key) == ({"a": 1}, asked.id)


def test_an_error_of_the_target_is_a_failed_check(call: Any) -> None:
    with pytest.raises(CheckFailedError, match=r"out of paper.*hvac-001"):
        call(lambda asked: [Reply(id=asked.id, error="out of paper")])


def test_a_call_that_nobody_gets_is_not_delivered(call: Any) -> None:
    with pytest.raises(UnreachableError, match="not delivered"):
        call(lambda _asked: [], code=0x10)


def test_a_call_that_policy_denies_is_refused(call: Any) -> None:
    with pytest.raises(RefusedError, match="0x87") as caught:
        call(lambda _asked: [], code=0x87)
    assert caught.value.reason == "not-authorized"


def test_no_answer_in_time_is_unreachable(call: Any) -> None:
    with pytest.raises(UnreachableError, match="no answer within"):
        call(lambda _asked: [], timeout_s=0.05)


def test_a_service_of_the_cloud_is_not_asked_through_a_gateway(layout: Layout) -> None:
    ingestion = SpiffeId.parse("spiffe://smart-building.cloud/agent/ingestion")
    asked = Asked(target=ingestion, capability="ingest_reading", data={}, timeout_s=5.0)
    with pytest.raises(UnreachableError, match="leave --via gateway out"):
        asyncio.run(calling.call(layout, asked, broker="gateway"))
