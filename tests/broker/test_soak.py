"""Ten minutes of mixed clients against a broker process: does it grow?

`PLANTROOM_SOAK_S` makes it shorter (CI's slice) or longer. Printed: the slope of the resident
memory over the second half, descriptors and threads; each is checked against its bound.
"""

import asyncio
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.broker.harness import DISCONNECT, Raw, puback, subscribe
from tests.broker.test_recovery import start
from tests.fakes.ports import free_port

SOAK_S = float(os.environ.get("PLANTROOM_SOAK_S", "600"))
SAMPLE_S = 1.0
CLIENTS = 40
SLOPE_KB_PER_MINUTE_MAX = 512.0
RSS_MB_MAX = 150.0
QUIET_S = 20.0


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@asynccontextmanager
async def reach(port: int) -> AsyncIterator[Raw]:
    raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield raw
    finally:
        raw.close()
        with suppress(OSError):
            await raw.writer.wait_closed()


async def publisher(port: int, rng: random.Random) -> int:
    count = rng.randrange(1, 40)
    async with reach(port) as raw:
        await raw.connect(f"p{rng.randrange(50)}", version=rng.choice((4, 5)))
        for number in range(1, count + 1):
            topic = f"soak/{rng.randrange(30)}/{rng.randrange(5)}"
            raw.publish(topic, rng.randbytes(100), packet_id=number, retain=rng.random() < 0.2)
        await raw.frames(count)
        raw.send(DISCONNECT)
    return count


async def subscriber(port: int, rng: random.Random) -> int:
    """Take some, acknowledge it, and go, with or without a goodbye; every second one is kept."""
    number = rng.randrange(20)
    async with reach(port) as raw:
        await raw.connect(f"s{number}", clean=number % 2 == 0)
        raw.send(subscribe((f"soak/{10 + number}/+", 1)))
        with suppress(TimeoutError):
            async with asyncio.timeout(rng.uniform(0.2, 3.0)):  # more than comes meanwhile
                while True:
                    first, body = await raw.frame()
                    if first >> 4 == 3 and first & 6:
                        at = 2 + int.from_bytes(body[:2], "big")
                        raw.send(puback(int.from_bytes(body[at : at + 2], "big")))
        if rng.random() < 0.5:
            raw.cut()
    return 0


async def stranger(port: int, rng: random.Random) -> int:
    async with reach(port) as raw:
        raw.send(rng.randbytes(rng.randrange(1, 500)))
        async with asyncio.timeout(5):
            await raw.reader.read()
    return 0


async def mixed(port: int, until_s: float, seed: int) -> int:
    """One of many: does one thing after another."""
    rng = random.Random(seed)  # noqa: S311 -- a test that replays
    done = 0
    kinds: list[Callable[[int, random.Random], Awaitable[int]]] = [publisher, publisher, subscriber]
    while time.monotonic() < until_s:
        kind = stranger if rng.random() < 0.05 else rng.choice(kinds)
        with suppress(ConnectionError, EOFError, TimeoutError):  # taken over by another
            done += await kind(port, rng)
    return done


async def watch(pid: int, until_s: float) -> list[tuple[float, int]]:
    samples = []
    while time.monotonic() < until_s:
        samples.append((time.monotonic(), resident_kb(pid)))
        await asyncio.sleep(SAMPLE_S)
    return samples


async def soak(port: int, pid: int) -> tuple[int, list[tuple[float, int]]]:
    until_s = time.monotonic() + SOAK_S
    async with asyncio.TaskGroup() as tasks:
        clients = [
            tasks.create_task(mixed(port, until_s, seed), name="test.client")
            for seed in range(CLIENTS)
        ]
        watching = tasks.create_task(watch(pid, until_s), name="test.watch")
    return sum(task.result() for task in clients), watching.result()


def settled(count: Callable[[], int], bound: int) -> int:
    """Wait for the broker to close what was cut; return the last count."""
    give_up_s = time.monotonic() + QUIET_S
    while (found := count()) > bound and time.monotonic() < give_up_s:
        time.sleep(0.2)
    return found


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S + 120)
def test_broker_does_not_grow(tmp_path: Path) -> None:
    port = free_port()
    process = start(tmp_path, port)
    try:
        files, workers = descriptors(process.pid), threads(process.pid)
        published, samples = asyncio.run(soak(port, process.pid))
        second_half = samples[len(samples) // 2 :]
        slope, _ = statistics.linear_regression(*zip(*second_half, strict=True))
        open_files = settled(lambda: descriptors(process.pid), files + 2)
        last_mb = samples[-1][1] / 1024
        print(  # noqa: T201 -- a report
            f"{SOAK_S:g} s, {published} publishes, RSS {samples[0][1] / 1024:.1f} to {last_mb:.1f}"
            f" MB, slope {slope * 60:+.1f} kB/min over the second half, descriptors {files} to"
            f" {open_files}, threads {workers} to {threads(process.pid)}"
        )
        assert published > SOAK_S
        if SOAK_S >= 300:  # a shorter slice still warms up
            assert slope * 60 < SLOPE_KB_PER_MINUTE_MAX
        assert last_mb < RSS_MB_MAX
        assert open_files <= files + 2
        assert threads(process.pid) <= workers + 4
    finally:
        process.kill()
        process.wait()
