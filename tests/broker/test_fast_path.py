"""The fast path and the plain path are one broker: the same bytes in give the same out."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plantroom.broker.fast_path import FastPath
from plantroom.broker.memory import MemorySink
from plantroom.broker.properties import Property
from plantroom.broker.segments import Arrived, arrivals
from tests.broker.harness import Frame, Rules, packet, puback, publish, running

USER: dict[int, Any] = {
    Property.USER: (("range", "1/2/3"),),
    Property.CONTENT_TYPE: "application/cbor",
}
PROPERTIES: list[dict[int, Any]] = [
    {},
    USER,
    {Property.MESSAGE_EXPIRY: 60},
    {Property.RESPONSE_TOPIC: "reply"},
]
END, END_ID = b"the end, behind all that came before", 1000
TOPICS = ("a/1", "a/2", "tap/1", "nobody", "denied", "$SYS/x", "view/1")


@st.composite
def packets(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    count = draw(st.integers(1, 25))
    return [
        (
            draw(st.sampled_from(TOPICS)),
            draw(st.binary(max_size=200)),
            draw(st.sampled_from([1, 1, 1, 1, 0, 2])),
            number,
            draw(st.sampled_from([False] * 5 + [True])),
            draw(st.integers(0, len(PROPERTIES) - 1)),
        )
        for number in range(1, count + 1)
    ]


@st.composite
def bursts(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Packets of one size and topic, with another here and there, and other properties."""
    size = draw(st.sampled_from([0, 1, 100, 118, 119, 120, 200, 16_400]))
    other = draw(st.integers(0, 200))
    at = draw(st.sets(st.integers(1, 12), max_size=3))
    return [
        (
            draw(st.sampled_from(["tap/2", "a/1"])) if number in at else "tap/1",
            bytes([number]) * (other if number in at else size),
            1,
            number,
            False,
            draw(st.integers(0, len(PROPERTIES) - 1)) if number in at else 0,
        )
        for number in range(1, draw(st.integers(2, 12)) + 1)
    ]


async def outcome(
    sent: list[tuple[Any, ...]], version: int, cut: int
) -> tuple[list[Frame], list[Frame], list[Arrived]]:
    """Return what publisher and subscriber got, and what was tapped."""
    sink = MemorySink()
    rules = Rules(lambda question: question.topic == "denied")
    async with running(
        sink=sink, decisions=rules, taps=("tap/#", "a/2"), volatile=("view/#",)
    ) as live:
        reader = await live.client("reader", version=version)
        await reader.subscribe(("a/#", 1), ("tap/#", 0), ("view/#", 1))
        writer = await live.client("writer", version=version)
        data = b"".join(
            publish(
                topic,
                payload,
                qos=qos,
                packet_id=number,
                retain=retain,
                version=version,
                properties=PROPERTIES[kind] if version == 5 else {},
            )
            for topic, payload, qos, number, retain, kind in sent
        )
        data += b"\xc0\x00" + publish("a/1", END, packet_id=END_ID, version=version)
        writer.send(data[:cut])
        await writer.writer.drain()
        writer.send(data[cut:])
        answers: list[Frame] = []
        while (frame := await writer.frame())[1][:2] != END_ID.to_bytes(2, "big"):
            if frame[0] != 0xD0:
                answers.append(frame)
        received: list[Frame] = []
        while not (frame := await reader.frame())[1].endswith(END):
            received.append(frame)
        tapped = [a for _, data in sink.segments.values() for a in arrivals(data)]
    return answers, received, tapped


def normal(frames: list[Frame]) -> list[Any]:
    """Decision ids count questions, which the two paths may ask a different number of times."""
    return [(first, body[:3] if first in {0x40, 0x50} else body) for first, body in frames]


def ordered(frames: list[Frame]) -> list[Frame]:
    """Order holds within a QoS; a commit between two messages may let QoS 0 go before QoS 1."""
    return sorted(frames, key=lambda frame: frame[0] & 6)


@pytest.mark.parametrize("version", [4, 5])
@given(sent=packets() | bursts(), share=st.floats(0, 1))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_paths_do_the_same(version: int, sent: list[tuple[Any, ...]], share: float) -> None:
    if version == 4:  # there a denial ends the connection; that has its own test
        sent = [one for one in sent if one[0] != "denied"]
    cut = int(share * sum(len(one[1]) + 12 for one in sent))
    fast = asyncio.run(outcome(sent, version, cut))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FastPath, "take", lambda _self, _data, position: position)
        plain = asyncio.run(outcome(sent, version, cut))
    assert normal(fast[0]) == normal(plain[0])
    assert ordered(fast[1]) == ordered(plain[1])
    assert [(a.topic, a.payload, a.qos, a.packet_id, a.user) for a in fast[2]] == [
        (a.topic, a.payload, a.qos, a.packet_id, a.user) for a in plain[2]
    ]


def test_runs_of_pubacks_are_taken_at_once_and_one_by_one() -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r")
            await reader.subscribe(("a", 1))
            writer = await live.client("w")
            writer.send(*(publish("a", packet_id=n) for n in range(1, 101)))
            await reader.frames(100)
            reader.send(*(puback(n) for n in range(1, 51)))
            reader.send(puback(60), puback(52), puback(51))
            reader.send(*(puback(n) for n in range(53, 101) if n != 60))
            assert await reader.silent()
            (session,) = [s for s in live.broker.sessions() if s.client_id == "r"]
            assert (session.in_flight, session.queued_bytes) == (0, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("bad", [packet(0x32, b"\x00\x05a"), publish("a", packet_id=0)])
def test_malformed_publish_behind_good_ones_costs_none_of_them(bad: bytes) -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, taps=("a",)) as live:
            raw = await live.client()
            raw.send(publish("a", packet_id=1), publish("a", packet_id=2))
            raw.send(bad)
            await raw.reader.read()
        tapped = [a for _, data in sink.segments.values() for a in arrivals(data)]
        assert [a.packet_id for a in tapped] == [1, 2]

    asyncio.run(scenario())


@pytest.mark.parametrize("version", [4, 5])
def test_members_of_a_share_take_turns_within_a_burst(version: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            members = [await live.client(f"m{number}", version=version) for number in range(3)]
            for member in members:
                await member.subscribe(("$share/g/a/+", 1))
            writer = await live.client("w", version=version)
            writer.send(
                *(
                    publish(f"a/{n % 2}", b"%d" % n, packet_id=n + 1, version=version)
                    for n in range(30)
                )
            )
            await writer.frames(30)
            got = [frame for member in members for frame in await member.frames(10)]
            payloads = [int(body[8 if version == 5 else 7 :]) for _, body in got]
            assert sorted(payloads) == list(range(30))

    asyncio.run(scenario())
