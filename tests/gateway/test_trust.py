import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.enrolled import EnrolledSource
from plantroom.certs.enrolled_async import AsyncEnrolled
from plantroom.certs.enrolment_client import Server
from plantroom.gateway import trust
from plantroom.gateway.identities import Names
from plantroom.gateway.settings import GatewaySettings
from plantroom.gateway.state_folder import StateFolder
from plantroom.wire import topics
from plantroom.wire.clock import SystemClock
from plantroom.wire.link import Message
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.waiting import eventually

BUILDING, CLOUD = "building-1.smart.local", "smart-building.cloud"
BRIDGE = f"spiffe://{CLOUD}/gateway/building-1"


def test_the_cloud_speaks_for_itself_and_through_the_bridge_only() -> None:
    check = trust.believes(BRIDGE, CLOUD)
    roots = topics.parse(f"v1/building-1/bundle/{CLOUD}")
    elsewhere = topics.parse("v1/building-1/bundle/building-2.smart.local")
    assert check(roots, BRIDGE) == "all"
    assert check(roots, f"spiffe://{BUILDING}/agent/gateway") is None
    assert check(elsewhere, BRIDGE) is None


class Alarms:
    def __init__(self) -> None:
        self.raised: list[tuple[str, str, str]] = []

    def alarm(self, rule: str, device: str, text: str) -> None:
        self.raised.append((rule, device, text))


def test_a_gateway_publishes_on_its_site_and_alarms_what_it_refuses(tmp_path: Path) -> None:
    folder, clock = StateFolder(tmp_path / "gw"), SystemClock()
    settings, said, alarms = GatewaySettings(), list[Message](), Alarms()

    async def publish(message: Message) -> int:
        said.append(message)
        return 0

    async def main() -> None:
        authority = Authority.open(folder.authority, BUILDING, clock=clock)
        front = Authority.open(tmp_path / "cloud", CLOUD, clock=clock)
        building = EmbeddedSource(
            authority, SpiffeId(BUILDING, "agent/gateway"), bundles={CLOUD: front.bundle()}
        )
        settled = EnrolledSource(
            folder.uplink,
            spiffe_id=SpiffeId.parse(BRIDGE),
            server=Server(host="127.0.0.1", port=9, spiffe_id=SpiffeId(CLOUD, "agent/front")),
        )
        settled.schedule.renewed(0, 1 << 40)
        cloud = AsyncEnrolled(settled)
        async with contextlib.AsyncExitStack() as stack:
            opened = trust.opened(stack, folder, authority, (building, cloud), Names.of(settings))
            assert opened.issuers is not None
            assert opened.issuers() == frozenset()
            assert not settled.due(1)
            opened.keeper.adopt(replace(front.bundle(), sequence=9))
            assert settled.due(1)  # a new root is answered by a renewal
            made = opened.statements(settings, Names.of(settings), publish=publish, asking=alarms)
            assert made is not None
            running = asyncio.create_task(made.run())
            made.offer(Message(topic=f"v1/building-1/denylist/{CLOUD}", payload=b""), BRIDGE)
            await eventually(lambda: alarms.raised and len(said) == 2)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert {message.topic for message in said} == {
        f"v1/building-1/bundle/{BUILDING}",
        f"v1/building-1/denylist/{BUILDING}",
    }
    assert alarms.raised[0][:2] == ("denylist-refused", "gateway")
