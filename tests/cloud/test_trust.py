import asyncio
import contextlib
import json
from pathlib import Path

from plantroom.certs.authority import Authority
from plantroom.certs.registry import Registry
from plantroom.cloud import trust
from plantroom.cloud.settings import CloudSettings
from plantroom.cloud.state_folder import StateFolder
from plantroom.wire import topics
from plantroom.wire.clock import SystemClock
from plantroom.wire.link import Message
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.waiting import eventually

BUILDING, CLOUD = "building-1.smart.local", "smart-building.cloud"
UPLINK = f"spiffe://{CLOUD}/gateway/building-1"


def test_a_cloud_tells_every_site_and_hears_each_sites_one_domain(tmp_path: Path) -> None:
    folder, clock, said = StateFolder(tmp_path / "cloud"), SystemClock(), list[Message]()

    async def publish(message: Message) -> int:
        said.append(message)
        return 0

    async def main() -> None:
        authority = Authority.open(folder.authority, CLOUD, clock=clock)
        building = Authority.open(tmp_path / "b", BUILDING, clock=clock)
        registry = Registry.open(folder.registry)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(registry.close)
            opened = trust.opened(
                stack, folder, authority, registry, given={BUILDING: building.bundle()}, own=CLOUD
            )
            statements = opened.statements(CloudSettings(), publish=publish, clock=clock)
            assert statements is not None
            running = asyncio.create_task(statements.run())
            for site in ("building-1", "building-2"):
                registry.create(SpiffeId.parse(f"spiffe://{CLOUD}/gateway/{site}"))
            statements.offer(
                Message(topic=f"v1/building-1/bundle/{BUILDING}", payload=b"{}"), UPLINK
            )
            await eventually(lambda: len(said) >= 5)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert _believed(opened, BUILDING, "building-1", UPLINK) == "own"
            assert _believed(opened, BUILDING, "building-1", "another") is None
            assert _believed(opened, "other.smart.local", "building-1", UPLINK) is None
            assert _believed(opened, "building-1.evil.local", "building-1", UPLINK) is None
            second = f"spiffe://{CLOUD}/gateway/building-2"
            assert _believed(opened, "building-2.local", "building-2", second) == "own"

    asyncio.run(main())
    told = {message.topic for message in said if "/alarm/" not in message.topic}
    assert told == {
        f"v1/{site}/{what}/{CLOUD}"
        for site in ("building-1", "building-2")
        for what in ("bundle", "denylist")
    }
    (alarm,) = (message for message in said if "/alarm/" in message.topic)
    assert alarm.topic == "v1/building-1/alarm/bundle-refused/gateway"
    assert json.loads(alarm.payload)["state"] == "raised"


def _believed(opened: trust.Trust, name: str, site: str, publisher: str) -> str | None:
    return opened._believes(topics.parse(f"v1/{site}/bundle/{name}"), publisher)


def test_a_building_is_named_for_its_site() -> None:
    assert trust.site_of(BUILDING) == "building-1"


def test_a_device_that_anybody_has_revoked_has_no_standing(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "cloud")
    revoked = SpiffeId.parse(f"spiffe://{BUILDING}/agent/hvac-001")

    async def main() -> None:
        registry = Registry.open(folder.registry)
        registry.deny(revoked, reason="stolen")
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(registry.close)
            opened = trust.opened(stack, folder, None, registry, given={}, own=CLOUD)
            assert await opened.standing("building-1", "hvac-001") == "this device is revoked"
            assert not await opened.standing("building-1", "hvac-002")
            assert not await opened.standing("building-2", "hvac-001")

    asyncio.run(main())
