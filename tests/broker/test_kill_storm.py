"""kill -9 under load, again and again; damaged databases; a disk that is full."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.broker.exactly_once import Publisher, Receiver, connected
from tests.broker.harness import Raw, puback, subscribe
from tests.broker.harness import until as until_async
from tests.broker.test_recovery import start
from tests.fakes.ports import free_port
from tests.fakes.waiting import until

QUICK_ROUNDS = 4
STORM_ROUNDS = int(os.environ.get("PLANTROOM_STORM_ROUNDS", "200"))
ROUND_S = 30.0
GONE = (ConnectionError, asyncio.IncompleteReadError)


async def one_round(
    port: int, pid: int, rng: random.Random, publisher: Publisher, receiver: Receiver
) -> None:
    """Publish and receive until the broker is killed, at any moment of it."""

    async def until_gone(work: Coroutine[None, None, None]) -> None:
        with suppress(*GONE):
            await work

    async with asyncio.timeout(ROUND_S):
        receiving = asyncio.create_task(until_gone(receiver.run(port)), name="test.receiver")
        publishing = asyncio.create_task(
            until_gone(publisher.run(port, 10_000)), name="test.publisher"
        )
        before = publisher.sent
        limit = rng.choice((1, 20, 60, 200, 500))
        while publisher.sent - before < limit and not publishing.done():  # noqa: ASYNC110
            await asyncio.sleep(rng.random() * 0.01)
        os.kill(pid, signal.SIGKILL)
        await asyncio.gather(receiving, publishing)


async def settle(port: int, publisher: Publisher, receiver: Receiver) -> None:
    """Answer everything that is open, and take everything that comes."""
    async with asyncio.timeout(2 * ROUND_S), asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(receiver.run(port), name="test.receiver")
        await publisher.run(port, 10)
        wanted = publisher.done[1] | publisher.done[2]
        await until_async(lambda: wanted <= receiver.got.keys() and not receiver.incoming)
        receiving.cancel()


def storm(folder: Path, rounds: int, seed: int) -> Publisher:
    rng = random.Random(seed)  # noqa: S311 -- a test that replays
    port = free_port()
    publisher, receiver = Publisher(), Receiver()
    for number in range(rounds + 1):
        process = start(folder, port)
        try:
            if number < rounds:
                asyncio.run(one_round(port, process.pid, rng, publisher, receiver))
            else:
                asyncio.run(settle(port, publisher, receiver))
        finally:
            process.kill()
            process.wait()
    more_than_once = [payload for payload, times in receiver.got.items() if times > 1]
    assert publisher.done[1] | publisher.done[2] <= receiver.got.keys(), f"lost, seed {seed}"
    assert len(publisher.done[1] | publisher.done[2]) == publisher.sent
    assert not publisher.done[2].intersection(more_than_once), f"QoS 2 twice, seed {seed}"
    return publisher


def test_nothing_acknowledged_is_lost_and_qos_2_comes_once(tmp_path: Path) -> None:
    publisher = storm(tmp_path, QUICK_ROUNDS, seed=20_261_122)
    assert publisher.sent > 10


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_storm_of_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("PLANTROOM_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    publisher = storm(tmp_path, STORM_ROUNDS, seed)
    print(f"{STORM_ROUNDS} kills, {publisher.sent} messages, seed {seed}")  # noqa: T201 -- a report


# Damaged databases --------------------------------------------------------------------------------


def damaged(data: bytes, how: str) -> bytes:
    if how == "truncated":
        return data[: len(data) // 2 + 100]
    if how == "header":
        return b"\xa5" * 100 + data[100:]
    if how == "empty header":
        return bytes(100) + data[100:]
    return data[:4096] + b"\xa5" * (len(data) - 4096)  # the schema is whole, everything else is not


@pytest.mark.parametrize("how", ["truncated", "header", "empty header", "pages"])
def test_damaged_database_is_set_aside_and_service_goes_on(how: str, tmp_path: Path) -> None:
    async def fill(port: int) -> None:
        reader = await connected(port, "r")
        await reader.subscribe(("a/#", 1))
        reader.cut()
        writer = await connected(port, "w")
        for number in range(1, 50):
            writer.publish("a/b", b"x" * 1000, packet_id=number, retain=True)
        await writer.frames(49)
        writer.close()

    async def works(port: int) -> None:
        raw = await connected(port, "after")
        await raw.subscribe(("fresh", 1))
        raw.publish("fresh", b"again")
        assert sorted(first >> 4 for first, _ in await raw.frames(2)) == [3, 4]
        raw.close()

    port, path = free_port(), tmp_path / "broker.db"
    process = start(tmp_path, port)
    asyncio.run(fill(port))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    path.write_bytes(damaged(path.read_bytes(), how))
    process = start(tmp_path, port)
    try:
        asyncio.run(works(port))
        (aside, *_) = sorted(tmp_path.glob("broker.db.damaged-*"))
        assert aside.stat().st_size > 0
    finally:
        process.kill()
        process.wait()


# A full disk --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "plantroom-test", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system of its own needs root and mount")
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def publish_until_refused(raw: Raw, number: int) -> tuple[set[bytes], int]:
    """Publish one by one; return what was acknowledged before the disk was full."""
    acknowledged: set[bytes] = set()
    while True:
        payload = b"%07d" % number + b"x" * 10_000
        number += 1
        raw.publish("a/b", payload, packet_id=number)
        first, body = await raw.frame()
        assert first == 0x40
        if len(body) > 2 and body[2]:
            assert body[2] == 0x97
            return acknowledged, number
        acknowledged.add(payload)


async def full_and_free_again(port: int, make_room: Callable[[], None]) -> None:
    reader = await connected(port, "r")
    reader.send(subscribe(("a/#", 1)))
    await reader.frame()
    reader.cut()
    writer = Raw(*await asyncio.open_connection("127.0.0.1", port))
    await writer.connect("w", version=5)
    acknowledged, number = await publish_until_refused(writer, 0)
    assert len(acknowledged) > 20
    old = Raw(*await asyncio.open_connection("127.0.0.1", port))
    await old.connect("old", version=4)
    old.publish("a/b", b"held" * 2000, packet_id=9)
    assert await old.closed(), "without a PUBACK: MQTT 3.1.1 cannot say no"
    make_room()
    async with asyncio.timeout(ROUND_S):
        while True:  # by itself
            writer.publish("a/b", b"fresh", packet_id=number)
            _, body = await writer.frame()
            if len(body) == 2 or body[2] == 0:
                break
            await asyncio.sleep(0.05)
    acknowledged.add(b"fresh")
    reader = await connected(port, "r")
    got: set[bytes] = set()
    while not acknowledged <= got:
        _, body = await reader.frame()
        got.add(body[7:])
        reader.send(puback(int.from_bytes(body[5:7], "big")))
    for raw in (reader, writer, old):
        raw.cut()


def test_full_disk_refuses_loses_nothing_and_recovers(small_disk: Path) -> None:
    filler, port = small_disk / "filler", free_port()
    with filler.open("wb") as file:
        file.write(bytes(2 << 20))
    process = start(small_disk, port, "[limits]\nhold_s = 1.0\n")
    try:
        asyncio.run(full_and_free_again(port, filler.unlink))
    finally:
        process.kill()
        process.wait()
        until(lambda: process.poll() is not None, deadline_s=5)
