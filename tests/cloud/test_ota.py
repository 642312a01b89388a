"""The update service: from a published manifest to a verdict, and what it refuses."""

from pathlib import Path

from plantroom.cloud import ota_service
from plantroom.cloud.ota import Updates
from plantroom.wire import head, ota_messages
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import ChunkStatus, Get
from tests.fakes.ota_author import IMAGE, Author, read, signer
from tests.fakes.ota_cloud import (
    SITE,
    OtaCloud,
    assigned,
    born,
    manifest,
    report,
    upload,
)


def test_a_manifest_is_registered_named_and_audited_once(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)

    async def work(updates: Updates) -> None:
        (said,) = await updates.take([manifest(cloud.author)])
        assert said.topic == f"v1/{SITE}/ota/head"
        assert head.read(said.payload)[0].version == 1
        assert not await updates.take([manifest(cloud.author), said])
        rows = await updates.registry.audit()
        assert [row.event for row in rows] == ["registered"]
        assert "hvac 1.10.0 (10), rollout all" in rows[0].text

    cloud.run(work)


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)

    async def before(updates: Updates) -> None:
        await updates.take([manifest(cloud.author), *upload(cloud.author)])

    async def after(updates: Updates) -> None:
        assert not await updates.take([manifest(cloud.author)])
        topics = [message.topic for message in updates.standing()]
        assert topics == [f"v1/{SITE}/ota/head", f"v1/{SITE}/ota/hvac/manifest"]
        status = await updates.images.status(read(cloud.author.manifest()).image)
        assert status["complete"]

    cloud.run(before)
    cloud.run(after)


def test_what_is_refused_is_said_once_and_an_attack_raises_an_alarm(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)

    async def work(updates: Updates) -> None:
        forged = manifest(cloud.author, by=[signer()])
        junk = Message(topic=f"v1/{SITE}/ota/hvac/manifest", payload=b"junk")
        wild = manifest(cloud.author, rollout="now")
        (alarm,) = await updates.take([forged, junk, wild, forged])
        assert alarm.topic == f"v1/{SITE}/alarm/update-bad-signature/ota"
        assert not await updates.take([forged, junk, wild])
        rows = await updates.registry.audit()
        assert [row.event for row in rows] == ["refused"] * 3
        assert updates.refused == 3
        assert not await updates.take([Message(topic=junk.topic, payload=b"")])

    cloud.run(work)


def test_a_key_rotation_is_followed(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    author = cloud.author

    async def work(updates: Updates) -> None:
        await updates.take([manifest(author)])
        author.authors = [signer()]
        trust = Message(topic=f"v1/{SITE}/ota/trust/2", payload=author.trust(2))
        assert not await updates.take([trust])
        (said,) = await updates.take([manifest(author, sequence=11)])
        assert head.read(said.payload)[0].version == 2

    cloud.run(work)


def test_images_are_taken_for_registered_releases_and_served_to_gateways(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    release = read(cloud.author.manifest())

    def get(*wanted: int, image: bytes = release.image_digest) -> Message:
        asked = Get(image=image, chunk_bytes=release.chunks.chunk_bytes, wanted=wanted)
        topic = f"v1/{SITE}/ota/gateway/get"
        return Message(topic=topic, payload=ota_messages.encode(asked))

    async def work(updates: Updates) -> None:
        chunks = upload(cloud.author)
        await updates.take(chunks)
        assert updates.images.dropped == len(chunks), "nobody has vouched for them yet"
        await updates.take([manifest(cloud.author), *chunks[1:]])
        said = await updates.take([get(0, 1)])
        assert [message.topic for message in said] == [
            f"v1/{SITE}/ota/gateway/chunk/1",
            f"v1/{SITE}/ota/gateway/chunk/status",
        ]
        assert ota_messages.decode(said[1].payload, ChunkStatus).status == "later"
        bad = Message(topic=chunks[0].topic, payload=chunks[1].payload)
        await updates.take([bad, chunks[0]])
        (first,) = await updates.take([get(0)])
        assert first.payload == IMAGE[: release.chunks.chunk_bytes]
        (gone,) = await updates.take([get(0, image=bytes(32))])
        assert ota_messages.decode(gone.payload, ChunkStatus).status == "gone"
        elsewhere = Message(topic=f"v1/{SITE}/ota/hvac-001/get", payload=get(0).payload)
        assert not await updates.take([elsewhere])
        assert "image-whole" in {row.event for row in await updates.registry.audit()}

    cloud.run(work)


def test_a_full_store_is_said_and_nothing_breaks(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    cloud.bytes_max = 1000

    async def work(updates: Updates) -> None:
        await updates.take([manifest(cloud.author), *upload(cloud.author)[:1]])
        (newest, *_) = await updates.registry.audit()
        assert newest.event == "refused"
        assert "no room for an image" in newest.text

    cloud.run(work)


def test_reports_are_kept_in_their_order_and_verdicts_audited(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    digest = read(cloud.author.manifest()).digest

    async def work(updates: Updates) -> None:
        await updates.take([born("hvac-001"), manifest(cloud.author)])
        await updates.take(
            [
                report("hvac-001", "DOWNLOADING", number=5, release=digest, chunks=6),
                report("hvac-001", "UPDATED", number=7, release=digest, version="1.10.0"),
                report("hvac-001", "UPDATING", number=6, release=digest),
            ]
        )
        device = updates.device(SITE, "hvac-001")
        assert (device.kind, device.state, device.number) == ("hvac", "UPDATED", 7)
        assert [row.event for row in await updates.registry.audit()][:2] == [
            "updated",
            "downloading",
        ]
        await updates.take([report("hvac-001", "IDLE", number=1)])
        assert device.state == "IDLE", "a device that was set up anew counts anew"

    cloud.run(work)


def test_a_campaign_runs_from_its_canary_to_its_end_through_a_restart(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    digest = read(cloud.author.manifest()).digest
    canaries: list[str] = []

    async def begin(updates: Updates) -> None:
        await updates.take([born(f"hvac-00{n}") for n in range(4)])
        await updates.take([born("energy-001", "energy"), manifest(cloud.author)])
        plan = {"name": "spring", "release": digest.hex(), "groups": [{"count": 1}, {}]}
        said = await cloud.calling(updates, "campaign_create", plan)
        assert said[0].topic == f"v1/{SITE}/ota/head", "from now on for assigned devices only"
        canaries.extend(assigned(await updates.tick()))
        assert len(canaries) == 1
        assert not await updates.tick()

    async def go_on(updates: Updates) -> None:
        assert not await updates.tick()
        await updates.take([report(canaries[0], "UPDATED", release=digest)])
        words = assigned(await updates.tick())
        assert len(words) == 3
        assert {word.version for word in words.values()} == {1}
        assert {word.release for word in words.values()} == {digest}
        await updates.take([report(name, "UPDATED", release=digest) for name in words])
        await updates.tick()
        shown = await cloud.call(updates, "campaign_show", {"name": "spring"})
        assert (shown["standing"], shown["states"]) == ("finished", {"UPDATED": 4})

    cloud.run(begin)
    cloud.run(go_on)


def test_who_comes_later_joins_a_running_campaign(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    release = read(cloud.author.manifest())

    async def work(updates: Updates) -> None:
        await updates.take([born("hvac-001"), manifest(cloud.author, rollout="assigned")])
        plan = {"name": "spring", "release": release.digest.hex()}
        await cloud.call(updates, "campaign_create", plan)
        assert set(assigned(await updates.tick())) == {"hvac-001"}
        await updates.take([born("hvac-002")])
        assert set(assigned(await updates.tick())) == {"hvac-002"}

    cloud.run(work)


def test_a_lost_registry_goes_on_with_what_the_broker_retains(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    author, retained = cloud.author, list[Message]()
    digest = read(author.manifest()).digest

    async def before(updates: Updates) -> None:
        retained.extend([born("hvac-001"), manifest(author, rollout="assigned")])
        retained.extend(await updates.take(retained))
        await cloud.call(updates, "campaign_create", {"name": "a", "release": digest.hex()})
        retained.extend(await updates.tick())

    async def after(updates: Updates) -> None:
        heads = [one for one in retained if one.topic.endswith("/head")]
        assert not await updates.take([*heads, *retained])
        await cloud.call(updates, "campaign_create", {"name": "b", "release": digest.hex()})
        (word,) = assigned(await updates.tick()).values()
        assert word.version == 2, "a device heeds only a word that is newer"
        (said,) = await updates.take([manifest(author, sequence=11)])
        assert head.read(said.payload)[0].version == 2

    cloud.run(before)
    for path in tmp_path.glob("ota.db*"):
        path.unlink()
    cloud.run(after)


def test_heads_are_renewed_before_they_expire(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path, Author())

    async def work(updates: Updates) -> None:
        await updates.take([manifest(cloud.author)])
        assert not await updates.tick()
        cloud.clock.now_us += head.EXPIRES_S * 500_000
        (said,) = await updates.tick()
        assert head.read(said.payload)[0].version == 2
        assert not await updates.tick()

    cloud.run(work)


def test_its_figures_are_shown(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)

    async def work(updates: Updates) -> None:
        names = {metric.name for metric in ota_service.metrics(updates)}
        assert "plantroom_ota_refused_total" in names

    cloud.run(work)
