"""The power is cut at every step, and at every pair of steps, of an update's whole life.

On the product's own slots, part file and documents, over a disk that keeps of unsynced writes the
old, the new or half. Quick: single steps. Slow: every pair, with several disks' fates;
PLANTROOM_POWER_CUTS bounds how many.
"""

import io
import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from plantroom.device.updater_record import BAD_AFTER
from plantroom.wire import firmware
from tests.fakes import ota_author
from tests.fakes.ota_author import Author
from tests.fakes.ota_device import (
    HEAD_TOPIC,
    MANIFEST_TOPIC,
    PowerCutError,
    SimDevice,
    SimStorage,
    serving,
)

OLD, NEW = b"old" * 800, b"new" * 1000
CYCLES_MAX = 30
ROUNDS_MAX = 1000
SEEDS = 2
HEALTH = {"is well": True, "fails its test": False, "hangs": None}


class World:
    """A device that runs release 9, and everything signed for release 10."""

    def __init__(self) -> None:
        self.author = Author()
        chunk_bytes = firmware.CHUNK_BYTES_MIN
        self.old, self.new = (
            self.author.manifest(number, image, **_cut(image, chunk_bytes))
            for number, image in ((9, OLD), (10, NEW))
        )
        device = SimDevice(author=self.author, serve=serving(OLD))
        device.boot()
        device.release(self.old)
        assert device.run(lambda: device.state == "UPDATED")
        self.before = dict(device.storage.durable)
        self.anchor = device.anchor
        self.head = self.author.head(2, [self.new])
        self.steps = max(self.count(health=health) for health in HEALTH)

    def device(self, *, health: str, seed: int) -> SimDevice:
        storage = SimStorage(seed)
        storage.durable = dict(self.before)
        device = SimDevice(
            author=self.author,
            storage=storage,
            serve=serving(OLD, NEW),
            healthy=lambda image: True if image != NEW else HEALTH[health],
            boots=2,
        )
        device.anchor = self.anchor
        return device

    def count(self, *, health: str) -> int:
        """Count the steps of one life without a cut."""
        device = self.device(health=health, seed=0)
        live(device, self, [])
        return device.storage.steps

    def scenario(self, cuts: tuple[int, ...], *, health: str, seed: int) -> None:
        device = self.device(health=health, seed=seed)
        installs = live(device, self, list(cuts))
        where = f"cuts {cuts}, {health}, seed {seed}"
        healthy = health == "is well"
        active = device.record.active
        assert active.sequence == (10 if healthy else 9), where
        assert device.running == (NEW if healthy else OLD), where
        assert healthy or device.record.known_bad == {ota_author.read(self.new).digest}, where
        assert healthy or installs <= BAD_AFTER + len(cuts), where


def _cut(image: bytes, chunk_bytes: int) -> dict[str, Any]:
    digest, chunks = firmware.cut(io.BytesIO(image), chunk_bytes)
    return {"image_digest": digest, "chunks": chunks}


def live(device: SimDevice, world: World, cuts: list[int]) -> int:
    """Let a device live, cut by cut, until it has settled; return how often it installed."""
    release = ota_author.read(world.new).digest
    device.retained = {MANIFEST_TOPIC: world.new, HEAD_TOPIC: world.head}
    storage = device.storage
    installs = floor = 0
    for _ in range(CYCLES_MAX):
        start = storage.steps
        storage.cut_at = start + cuts.pop(0) if cuts else None
        try:
            device.boot()
            assert device.running in {OLD, NEW}, "it runs what was never whole"
            assert device.record.active.sequence >= floor, "the floor has sunk"
            floor = device.record.active.sequence
            on_trial = device.record.trial is not None
            if until_restart(device, release) and device.record.trial is None:
                return installs
            installs += not on_trial and device.record.trial is not None
        except PowerCutError:
            continue
    pytest.fail(f"never settled: {device.states[-12:]}")


def until_restart(device: SimDevice, release: bytes) -> bool:
    """Let one boot live; True when it has nothing more to do."""
    for _ in range(ROUNDS_MAX):
        device.step()
        if device.restarted:
            return False
        last = device.reports[-1] if device.reports else None
        ended = last is not None and last.state in {"UPDATED", "ROLLED_BACK"}
        if ended and last is not None and last.release == release and not device.updater.active:
            return True
        if not device.updater.busy:
            device.clock.us += 500_000 if device.record.trial is None else 20_000_000
    pytest.fail(f"hangs: {device.states[-12:]}")


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def pairs(world: World) -> Iterator[tuple[tuple[int, ...], str, int]]:
    steps = range(1, world.steps + 1)
    for seed in range(SEEDS):
        for health in HEALTH:
            for first, second in itertools.product(steps, steps):
                yield (first, second), health, seed


@pytest.mark.parametrize("health", HEALTH)
def test_a_cut_at_every_step_leaves_the_old_image_or_the_new(world: World, health: str) -> None:
    stride = 1 if health == "is well" else 3  # the rest is behind the mark `soak`
    for step in range(1, world.steps + 1, stride):
        world.scenario((step,), health=health, seed=step)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_cuts_at_every_pair_of_steps_leave_the_old_image_or_the_new(world: World) -> None:
    wanted = int(os.environ.get("PLANTROOM_POWER_CUTS", "0"))
    scenarios = list(pairs(world))
    assert len(scenarios) >= 10_000
    for cuts, health, seed in scenarios[:: max(1, len(scenarios) // wanted) if wanted else 1]:
        world.scenario(cuts, health=health, seed=seed)
