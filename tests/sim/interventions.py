"""What people do to a building that runs, and bad luck that comes in pairs: more faults by name."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any
from unittest import mock

from plantroom.cloud import quarantine as cloud_quarantine
from plantroom.cloud import replaying
from plantroom.gateway import quarantine, tables
from plantroom.gateway.tables import Life
from plantroom.wire import senml
from plantroom.wire.errors import CheckFailedError
from plantroom.wire.quarantined import Quarantined, why_not
from tests.sim.disk import Disk
from tests.sim.faults import Faults
from tests.sim.gateway import Gateway
from tests.sim.plan import POLICIES
from tests.sim.sensor import GARBLE

_LOOK_S, _LOOKS = 0.05, 200
_plain_records = senml._records_in


def _cured(data: bytes) -> Any:
    """Read also what nobody could read before the fix."""
    return _plain_records(data.removeprefix(GARBLE))


def _change(disk: Disk, work: Callable[[Any], int]) -> int:
    """Do what a command does with the file of a process, whether that runs or not."""
    disk.connection.execute("BEGIN IMMEDIATE")
    try:
        done = work(disk.connection)
    except CheckFailedError:
        disk.connection.execute("ROLLBACK")
        return 0
    disk.connection.execute("COMMIT")
    return done


def _ready(disk: Disk, items: list[Quarantined]) -> list[Quarantined]:
    return [] if disk.full else [item for item in items if not why_not(item)]


def _replay_one(faults: Faults, gateway: Gateway, item: Quarantined) -> None:
    incarnation = int(tables.meta(gateway.disk.connection, "incarnation", 0))
    bits = faults._world.chance.getrandbits
    life = Life(incarnation=incarnation, clock=gateway.clock, random_bits=bits)
    if _change(gateway.disk, lambda sql: quarantine.replay(sql, item, life)):
        faults._world.truth.see_replayed(item)


def replay(faults: Faults) -> None:
    """Replay what is in quarantine: some of it after a fix, some before."""
    world = faults._world
    gateway, chance = faults.gateway(), world.chance
    world.cloud.cured |= chance.random() < 0.3
    read = _cured if chance.random() < 0.7 else _plain_records
    with mock.patch.object(senml, "_records_in", read):
        for item in _ready(gateway.disk, quarantine.items(gateway.disk.connection)):
            _replay_one(faults, gateway, item)
    store = world.cloud_disk
    for item in _ready(store, cloud_quarantine.items(store.connection)):
        _change(store, lambda sql, item=item: replaying.replay(sql, item, 0))  # type: ignore[misc]


def drop(faults: Faults) -> None:
    """Give up one thing in quarantine."""
    gateway = faults.gateway()
    items = _ready(gateway.disk, quarantine.items(gateway.disk.connection))
    if items:
        item, at_us = faults._world.chance.choice(items), gateway.clock.wall_us()

        def work(sql: Any) -> int:
            quarantine.drop(sql, item, "of no use", at_us)
            return 1

        _change(gateway.disk, work)


def switch_policy(faults: Faults) -> None:
    """Start a gateway again with another policy for a full queue."""
    gateway = faults.gateway()
    policy = faults._world.chance.choice(POLICIES)
    gateway.kill()
    gateway.limits = dataclasses.replace(gateway.limits, policy=policy)


def restore_both(faults: Faults) -> None:
    """Let gateway and store lose their disks in one night."""
    faults.restore("gateway")
    faults.restore("cloud")


def restore_again(faults: Faults) -> None:
    """Put a copy of the store in place that may be put there once more."""
    image = faults._world.backups.get("cloud")
    faults.restore("cloud")
    if image is not None:
        faults._world.backups["cloud"] = image


def full_and_killed(faults: Faults) -> None:
    """Fill a disk, and kill who writes there meanwhile: it has to start on a full disk."""
    process = faults.one_of(faults._world.chance.choice(("sensor", "gateway", "cloud")))
    process.disk.full = True
    faults.later(0.2, 3, process.kill)
    faults.later(3, 10, lambda: setattr(process.disk, "full", False))


def step_in_outage(faults: Faults) -> None:
    """Cut a cable, and set somebody's clock while it is cut."""
    faults.cut(faults._world.chance.choice((faults.lan(), "bridge", "ingest")))
    faults.later(0.1, 0.5, faults.step_clock)


def crash_halving(faults: Faults) -> None:
    """Kill the gateway as soon as it has cut a batch into halves."""
    gateway, loop = faults.gateway(), asyncio.get_running_loop()

    def look(left: int) -> None:
        bridge = gateway.bridge
        halves = bridge is not None and any(s.first for s in bridge._lanes._lanes.values())
        if halves and gateway.alive:
            gateway.kill()
        elif left and faults._world.stormy:
            loop.call_later(_LOOK_S, look, left - 1)

    look(_LOOKS)


def clone_sensor(faults: Faults) -> None:
    """Start a second sensor from a copy of one's disk; both go on."""
    faults._world.clone_sensor(faults._world.chance.choice(faults._world.sensors))


INTERVENTION_OF: dict[str, Callable[[Faults], None]] = {
    "replay-quarantine": replay,
    "drop-quarantine": drop,
    "switch-policy": switch_policy,
    "restore-both": restore_both,
    "restore-cloud-again": restore_again,
    "full-and-killed": full_and_killed,
    "step-in-outage": step_in_outage,
    "crash-halving": crash_halving,
    "clone-sensor": clone_sensor,
}
