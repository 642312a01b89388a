"""Two domains tell each other their bundles and lists; what may not be said is refused."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from plantroom.certs import bundle, denylist
from plantroom.certs.authority import Authority
from plantroom.certs.authority_rotation import Rotation
from plantroom.certs.bundle_keeper import BundleKeeper
from plantroom.certs.denylist import DenyList
from plantroom.certs.registry import Registry
from plantroom.certs.registry_trust import TrustStore
from plantroom.certs.statements import Statements
from plantroom.wire.link import Message
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import Topic
from tests.fakes.waiting import eventually

BUILDING, CLOUD = "building-1.smart.local", "smart-building.cloud"
BRIDGE = "the bridge"
LIST, ROOTS = f"v1/building-1/denylist/{CLOUD}", f"v1/building-1/bundle/{CLOUD}"


class End:
    """One domain's statements, and everything that they did."""

    def __init__(self, authority: Authority, registry: Registry, known: Any) -> None:
        self.store = TrustStore(registry.path)
        self.keeper = BundleKeeper(self.store, known, own=authority.trust_domain)
        self.said: list[Message] = []
        self.alarms: list[tuple[str, str, str]] = []
        self.code = 0
        self.statements = Statements(
            authority,
            self.store,
            self.keeper,
            sites=lambda: ("building-1",),
            publish=self._publish,
            believes=_believes,
            alarm=self._alarm,
            period_s=0.01,
        )

    async def _publish(self, message: Message) -> int:
        self.said.append(message)
        return self.code

    async def _alarm(self, site: str, rule: str, text: str) -> None:
        self.alarms.append((site, rule, text))

    def hear(self, topic: str, payload: bytes, publisher: str = BRIDGE) -> None:
        self.statements.offer(Message(topic=topic, payload=payload, retain=True), publisher)


def _believes(_: Topic, publisher: str) -> Any:
    return "all" if publisher == BRIDGE else None


@contextlib.asynccontextmanager
async def running(
    authority: Authority, registry: Registry, known: Any = None
) -> AsyncIterator[End]:
    end = End(authority, registry, known or {})
    task = asyncio.create_task(end.statements.run())
    try:
        yield end
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        end.store.close()


def document(authority: Authority, sequence: int, *names: str) -> bytes:
    listed = DenyList(
        issuer=authority.trust_domain,
        sequence=sequence,
        at_us=0,
        spiffe_ids=dict.fromkeys(names, "stolen"),
    )
    return denylist.signed(authority, listed)


def test_ours_are_published_once_and_again_when_they_change(
    building: Authority, registry: Registry, sensor_id: SpiffeId, tmp_path: Path, clock: Any
) -> None:
    async def main() -> None:
        async with running(building, registry) as end:
            await eventually(lambda: len(end.said) == 2)
            first_roots, first_list = end.said
            assert first_roots.topic == f"v1/building-1/bundle/{BUILDING}"
            assert first_roots.retain
            assert bundle.from_json(BUILDING, first_roots.payload) == building.bundle()
            assert denylist.verified(first_list.payload, building.bundle()).sequence == 1
            registry.deny(sensor_id, reason="stolen")
            await eventually(lambda: len(end.said) == 4)
            told = denylist.verified(end.said[3].payload, building.bundle())
            assert told.spiffe_ids == {str(sensor_id): "stolen"}
            Rotation(tmp_path / "building-authority", BUILDING, clock=clock).prepare()
            await eventually(lambda: len(end.said) == 6)
            assert bundle.from_json(BUILDING, end.said[4].payload).sequence == 2

    asyncio.run(main())


def test_what_could_not_be_published_is_tried_again(
    building: Authority, registry: Registry
) -> None:
    async def main() -> None:
        async with running(building, registry) as end:
            end.code = 0x97
            await eventually(lambda: len(end.said) > 4)
            end.code = 0
            count = len(end.said)
            await eventually(lambda: len(end.said) >= count + 2)
            assert end.said[-1].topic.startswith("v1/building-1/denylist")

    asyncio.run(main())


def test_a_told_list_denies_and_a_told_root_proves_the_next(  # noqa: PLR0913, PLR0917
    building: Authority,
    cloud: Authority,
    registry: Registry,
    sensor_id: SpiffeId,
    tmp_path: Path,
    clock: Any,
) -> None:
    async def main() -> None:
        async with running(building, registry, {CLOUD: cloud.bundle()}) as end:
            end.hear(LIST, document(cloud, 2, str(sensor_id)))
            await eventually(lambda: end.store.lists().get(CLOUD))
            assert registry.policy_data()["revocation"]["spiffe_ids"] == {str(sensor_id): "stolen"}
            rotation = Rotation(tmp_path / "cloud-authority", CLOUD, clock=clock)
            rotation.prepare()
            rotation.activate(force=True)
            rotation.retire(force=True)  # so that the old root vouches no more
            end.hear(LIST, document(cloud, 3))  # its root is not known yet: an alarm, and kept
            await eventually(lambda: end.alarms)
            assert end.alarms[0][:2] == ("building-1", "denylist-refused")
            end.hear(ROOTS, bundle.to_json(cloud.bundle()))
            await eventually(lambda: end.store.lists()[CLOUD].sequence == 3)
            assert registry.policy_data()["revocation"]["spiffe_ids"] == {}

    asyncio.run(main())


def test_older_forged_and_broken_statements_are_refused_and_alarmed(
    building: Authority, cloud: Authority, registry: Registry, sensor_id: SpiffeId
) -> None:
    known = dataclasses.replace(cloud.bundle(), sequence=5)
    older = dataclasses.replace(known, sequence=4)
    other = dataclasses.replace(building.bundle(), trust_domain=CLOUD, sequence=5)
    bad = (
        (LIST, document(cloud, 3), "denylist-refused"),  # rolled back
        (LIST, document(cloud, 4), "denylist-refused"),  # another of the same sequence
        (LIST, document(building, 9), "denylist-refused"),  # signed by somebody else
        (LIST, b"\x00", "denylist-refused"),
        (ROOTS, bundle.to_json(older), "bundle-refused"),
        (ROOTS, bundle.to_json(other), "bundle-refused"),
        (ROOTS, b'{"keys": [], "spiffe_sequence": 9}', "bundle-refused"),
        (ROOTS, b"{", "bundle-refused"),
    )

    async def main() -> None:
        async with running(building, registry, {CLOUD: known}) as end:
            end.hear(LIST, document(cloud, 4, str(sensor_id)))
            await eventually(lambda: end.statements.adopted)
            for number, (topic, payload, rule) in enumerate(bad, start=1):
                end.hear(topic, payload)
                await eventually(lambda: end.statements.refused == number)  # noqa: B023 -- awaited
                assert end.alarms[-1][1] == rule, topic
            assert end.store.lists()[CLOUD].spiffe_ids == {str(sensor_id): "stolen"}
            assert end.keeper.all() == {CLOUD: known}

    asyncio.run(main())


def test_who_may_not_say_it_is_not_heard_and_nobody_says_what_is_ours(
    building: Authority, cloud: Authority, registry: Registry
) -> None:
    async def main() -> None:
        async with running(building, registry, {CLOUD: cloud.bundle()}) as end:
            end.hear(LIST, document(cloud, 2), publisher="a sensor")
            end.hear(f"v1/building-1/denylist/{BUILDING}", document(building, 9))
            end.hear("v1/building-1/elsewhere", b"")
            end.hear(ROOTS, bundle.to_json(dataclasses.replace(cloud.bundle(), sequence=2)))
            await eventually(lambda: end.statements.adopted == 1)
            assert end.store.lists() == {}
            assert end.statements.refused == 0

    asyncio.run(main())


def test_it_watches_bundles_and_lists_of_a_site_or_of_all() -> None:
    assert Statements.filters("+") == ["v1/+/bundle/+", "v1/+/denylist/+"]
    assert Statements.filters("b") == ["v1/b/bundle/+", "v1/b/denylist/+"]
