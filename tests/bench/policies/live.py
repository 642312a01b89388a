"""How soon a change reaches live sessions: a bundle's file, and the denylist."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from plantroom import policies
from plantroom.policies import desk
from plantroom.policies.desk import World
from plantroom.wire.clock import SystemClock
from plantroom.wire.policy_settings import PolicySection
from tests.bench.kit.figures import Figure, alone
from tests.policies.sessions import crowd

_GIVE_UP_S = 60.0
TARGETS_S = {100: 1.0, 1000: 5.0}


async def _until(condition: Callable[[], bool]) -> float:
    """Return how long it took until something was so."""
    began_s = time.perf_counter()
    async with asyncio.timeout(_GIVE_UP_S):
        while not condition():  # noqa: ASYNC110 -- another object's state
            await asyncio.sleep(0.005)
    return time.perf_counter() - began_s


async def _measured(count: int, folder: Path) -> tuple[float, float]:
    """Edit a grant, then revoke half; both times as the gateway's defaults have it."""
    names = [f"hvac-{number:04d}" for number in range(count)]
    world = World(clock=SystemClock(), label="bench", cloud_trust_domain="smart-building.cloud")
    nobody = {"revocation": {"generation": 1, "spiffe_ids": {}, "serials": {}}}
    settings = PolicySection(bundle=str(folder))
    async with desk.opened(settings, world) as office:
        running = asyncio.create_task(office.run())
        try:
            async with crowd(office, names, nobody) as sensors:
                acl = folder / "acl" / "data.json"
                text = acl.read_text()
                acl.write_text(text.replace("twin/{name}/desired", "twin/{name}/wanted"))
                edited_s = await _until(lambda: sensors.subscriptions == 0)
                revoked = {sensors.id_of(name): "lost" for name in names[::2]}
                office.update(revocation={"generation": 2, "spiffe_ids": revoked, "serials": {}})
                revoked_s = await _until(lambda: sensors.connected == count // 2)
        finally:
            running.cancel()
            await asyncio.wait([running])
    return edited_s, revoked_s


def changes(count: int) -> list[Figure]:
    """Measure both kinds of change with so many live sensors."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "bundle"
        ignored = shutil.ignore_patterns("*.py", "__pycache__")
        shutil.copytree(policies.bundle_dir(), folder, ignore=ignored)
        edited_s, revoked_s = asyncio.run(_measured(count, folder))
    target = TARGETS_S[count]
    of = f"{count:,} live sensors"
    return [
        alone(f"edited bundle, {of}", edited_s, unit="s", target=target, better="less"),
        alone(f"half revoked and closed, {of}", revoked_s, unit="s", target=target, better="less"),
    ]
