"""The broker as its owners use it: taps, watches, in-process publishing, holding, disconnecting."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from plantroom.broker.codes import Code
from plantroom.broker.errors import PacketError
from plantroom.broker.memory import MemorySink
from plantroom.broker.properties import Property
from plantroom.broker.server import segments
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.store import MIGRATIONS, SqliteStore
from plantroom.wire.database import Database
from plantroom.wire.errors import ConfigError, StorageFullError
from plantroom.wire.link import Message
from tests.broker.harness import Rules, publish, running, until
from tests.fakes.waiting import until as until_now

TAPS = ("v1/+/telemetry/+",)
TOPIC = "v1/building-1/telemetry/hvac-001"


def arrived(sink: MemorySink) -> list[segments.Arrived]:
    return [a for _, data in sink.segments.values() for a in segments.arrivals(data)]


def test_tapped_publishes_are_in_a_segment_before_puback_without_subscribers() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, taps=TAPS) as live:
            woken: list[int] = []
            live.broker.on_tapped(lambda: woken.append(len(sink.segments)))
            raw = await live.client("hvac-001", version=5)
            raw.publish(
                TOPIC,
                b"pack",
                packet_id=5,
                properties={
                    Property.CONTENT_TYPE: "application/senml+cbor",
                    Property.USER: (("range", "1/0/9"),),
                },
            )
            await raw.acknowledged(5)
            raw.publish("elsewhere", packet_id=6)
            await raw.acknowledged(6)
            raw.publish(TOPIC, b"again", packet_id=7, dup=True)
            raw.publish(TOPIC, b"loose", qos=0)
            await raw.acknowledged(7)
            await until(lambda: len(arrived(sink)) == 3)
            first, second, third = arrived(sink)
            assert first.topic == TOPIC
            assert (first.payload, first.qos, first.dup, first.packet_id) == (b"pack", 1, False, 5)
            assert first.content_type == "application/senml+cbor"
            assert first.user == {"range": "1/0/9"}
            assert (first.spiffe_id, first.client_id) == ("anonymous", "hvac-001")
            assert (second.dup, second.packet_id, second.session) == (True, 7, first.session)
            assert (third.qos, third.payload) == (0, b"loose")
            assert woken[0] == 1

    asyncio.run(scenario())


def test_tapped_segments_stay_until_every_tap_has_passed() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, taps=TAPS) as live:
            raw = await live.client()
            for number in (1, 2):
                raw.publish(TOPIC, packet_id=number)
                await raw.acknowledged(number)
            sink.taps = {"derive": 1, "other": 2}
            await until(lambda: list(sink.segments) == [2])
            sink.taps = {"derive": 2, "other": 2}
            await until(lambda: not sink.segments)

    asyncio.run(scenario())


def test_tap_hold_refuses_tapped_topics_only() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, taps=TAPS) as live:
            raw = await live.client("five", version=5)
            raw.publish(TOPIC, packet_id=1)
            await raw.acknowledged(1)
            live.broker.tap_hold(0x97)
            raw.send(publish(TOPIC, packet_id=2, version=5), publish("a", packet_id=3, version=5))
            first, body = await raw.frame()
            assert (first, body[:3]) == (0x40, b"\0\2\x97")
            await raw.acknowledged(3)
            assert (
                await live.broker.publish(Message(topic=TOPIC, payload=b""), publisher="x") == 0x97
            )
            live.broker.tap_hold(None)
            raw.publish(TOPIC, packet_id=4)
            await raw.acknowledged(4)
            assert len(arrived(sink)) == 2

    asyncio.run(scenario())


def test_tap_hold_holds_mqtt_3_and_closes_it_after_10_s() -> None:
    async def scenario() -> None:
        async with running(taps=TAPS) as live:
            raw = await live.client("three")
            live.broker.tap_hold(0x97)
            raw.publish(TOPIC)
            await until(lambda: any(c.close_at_us for c in connections(live)))
            live.clock.jump(11)
            assert await raw.closed()

    asyncio.run(scenario())


def connections(live: Any) -> list[Any]:
    return list(live.broker._engine.connections)


def test_in_process_publish_is_durable_and_seen_by_clients_and_watchers() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, taps=TAPS) as live:
            seen: list[tuple[Message, str]] = []
            message = Message(
                topic=TOPIC, payload=b"in", retain=True, content_type="x/y", user={"k": "v"}
            )
            assert await live.broker.publish(message, publisher="spiffe://b/agent/gateway") == 0
            assert arrived(sink)[0].spiffe_id == "spiffe://b/agent/gateway"
            stop = live.broker.watch("v1/#", lambda m, who: seen.append((m, who)))
            await until(lambda: seen)
            assert seen == [(message, "spiffe://b/agent/gateway")]
            raw = await live.client()
            raw.publish("v1/x", b"y")
            await until(lambda: len(seen) == 2)
            assert (seen[1][0].payload, seen[1][0].retain, seen[1][1]) == (b"y", False, "anonymous")
            stop()
            raw.publish("v1/x", b"z", packet_id=2)
            await raw.frames(2)
            assert len(seen) == 2

    asyncio.run(scenario())


def test_in_process_publish_tells_that_nothing_was_stored() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, taps=TAPS) as live:
            sink.fault = StorageFullError("no space left")
            message = Message(topic=TOPIC, payload=b"", retain=False)
            assert await live.broker.publish(message, publisher="x") == Code.QUOTA_EXCEEDED
            with pytest.raises(PacketError, match="wildcard"):
                await live.broker.publish(Message(topic="a/#", payload=b""), publisher="x")

    asyncio.run(scenario())


def test_watcher_that_fails_does_not_stop_the_broker(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with running() as live:

            def fail(_message: Message, _who: str) -> None:
                raise ValueError("watcher's own fault")

            live.broker.watch("#", fail)
            raw = await live.client()
            raw.publish("a")
            await raw.acknowledged()
            assert await raw.silent()

    asyncio.run(scenario())
    assert "watcher failed on a" in caplog.text


def test_volatile_topics_never_touch_the_disk() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, volatile=("v1/+/view/#",), taps=TAPS) as live:
            gone = await live.client("gone", clean=False)
            await gone.subscribe(("#", 1))
            reader = await live.client("r", clean=False)
            await reader.subscribe(("#", 1))
            gone.cut()
            await until(lambda: not all(s.connected for s in live.broker.sessions()))
            view = Message(topic="v1/b/view/d/p", payload=b"{}", retain=True)
            assert await live.broker.publish(view, publisher="x") == 0
            first, body = await reader.frame()
            assert first == 0x32
            reader.send(b"\x40\2" + body[15:17])
            assert not sink.segments
            assert not sink._retained
            late = await live.client("late")
            await late.subscribe(("v1/+/view/#", 0))
            assert (await late.frame())[0] == 0x31
            gone = await live.client("gone", clean=False)
            assert await gone.silent()

    asyncio.run(scenario())


def test_disconnect_closes_a_principals_connections_at_once() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client(version=5)
            assert live.broker.disconnect("spiffe://other/x") == 0
            assert live.broker.disconnect("anonymous") == 1
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, Code.ADMINISTRATIVE_ACTION)
            assert await raw.closed()

    asyncio.run(scenario())


def test_sys_topics_and_metrics_tell_the_same() -> None:
    async def scenario() -> None:
        async with running(limits=BrokerLimits(sys_interval_s=5.0)) as live:
            raw = await live.client()
            await raw.subscribe(("$SYS/#", 0))
            first, body = await raw.frame()
            assert first == 0x31
            assert body[2:].startswith(b"$SYS/broker/")
            values = {m.name: m.value for m in live.broker.metrics()}
            assert values["plantroom_broker_connections"] == 1
            everything = await live.client("all")
            await everything.subscribe(("#", 0))
            assert await everything.silent(), "# does not match $SYS"

    asyncio.run(scenario())


def test_port_in_use_is_one_clear_error() -> None:
    async def scenario() -> None:
        async with running() as live:
            with pytest.raises(ConfigError, match="in use"):
                await live.broker.listen("127.0.0.1", live.port, None)

    asyncio.run(scenario())


def test_shutdown_tells_clients_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = Database.open(tmp_path / "b.db", MIGRATIONS)
        async with running(sink=SqliteStore(database), taps=TAPS) as live:
            raw = await live.client(version=5)
            raw.publish(TOPIC)
            await raw.acknowledged()
            goodbye = asyncio.create_task(raw.frame())
            await asyncio.sleep(0)
            live.keep_clients()
        first, body = await goodbye
        assert (first, body[0]) == (0xE0, Code.SERVER_SHUTTING_DOWN)
        raw.close()
        rows = database.write_now(lambda db: db.execute("SELECT data FROM segment").fetchall())
        assert [a.topic for (data,) in rows for a in segments.arrivals(data)] == [TOPIC]
        database.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("protocol", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
def test_paho_speaks_with_it(protocol: MQTTProtocolVersion) -> None:
    def speak(port: int) -> list[tuple[str, bytes | bytearray, int]]:
        got: list[tuple[str, bytes | bytearray, int]] = []
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="paho", protocol=protocol)
        client.on_message = lambda _c, _u, m: got.append((m.topic, m.payload, m.qos))
        client.connect("127.0.0.1", port)
        client.loop_start()
        client.subscribe([("a/#", 2)])
        for qos in (0, 1, 2):
            client.publish(f"a/{qos}", b"%d" % qos, qos).wait_for_publish(10)
        until_now(lambda: len(got) == 3, deadline_s=10, what="three messages")
        client.disconnect()
        client.loop_stop()
        return got

    async def scenario() -> None:
        async with running() as live:
            got = await asyncio.to_thread(speak, live.port)
            assert sorted(got) == [("a/0", b"0", 0), ("a/1", b"1", 1), ("a/2", b"2", 2)]

    asyncio.run(scenario())


def test_aiomqtt_speaks_with_it() -> None:
    async def scenario() -> None:
        async with (
            running() as live,
            aiomqtt.Client(
                "127.0.0.1", live.port, identifier="aio", protocol=aiomqtt.ProtocolVersion.V5
            ) as client,
        ):
            await client.subscribe("a", qos=1)
            await client.publish("a", b"x", qos=1)
            async with asyncio.timeout(10):
                assert (await anext(aiter(client.messages))).payload == b"x"

    asyncio.run(scenario())


def test_revocation_closes_connections_and_drops_subscriptions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(decisions=rules) as live:
            revoked = await live.client("revoked", version=5)
            narrowed = await live.client("narrowed", version=5)
            await narrowed.subscribe(("a", 1), ("b", 1))
            rules.change(lambda q: q.client_id == "revoked" or q.topic == "a")
            first, body = await revoked.frame()
            assert (first, body[0]) == (0xE0, Code.NOT_AUTHORIZED)
            assert await revoked.closed()
            await until(lambda: live.broker.sessions()[0].subscriptions == ("b",))
            assert await narrowed.silent()

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    assert "event=revoked" in caplog.text
    assert "event=subscription-dropped" in caplog.text


def test_policy_change_takes_effect_on_the_next_publish() -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(decisions=rules) as live:
            raw = await live.client(version=5)
            raw.publish("a", packet_id=1)
            await raw.acknowledged(1)
            asked = len(rules.asked)
            raw.publish("a", packet_id=2)
            await raw.acknowledged(2)
            assert len(rules.asked) == asked, "the answer is remembered"
            rules.denied = lambda q: q.topic == "a"
            rules.generation += 1
            raw.publish("a", packet_id=3)
            assert (await raw.frame())[1][2] == Code.NOT_AUTHORIZED

    asyncio.run(scenario())


def test_answer_is_asked_for_again_when_its_time_is_over() -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(decisions=rules) as live:
            raw = await live.client(version=5)
            raw.publish("a", packet_id=1)
            await raw.acknowledged(1)
            rules.denied = lambda q: q.topic == "a"
            live.clock.jump(301)
            epoch = live.broker._engine.epoch
            await until(lambda: live.broker._engine.epoch > epoch)
            raw.publish("a", packet_id=2)
            assert (await raw.frame())[1][2] == Code.NOT_AUTHORIZED

    asyncio.run(scenario())
