"""What the update service answers, and to whom."""

import base64
from pathlib import Path
from typing import Any

import pytest

from plantroom.cloud import ota_calls
from plantroom.cloud.ota import Updates
from plantroom.wire import firmware, suit
from plantroom.wire.errors import RefusedError, UsageError
from tests.fakes.ota_author import IMAGE, read, signer
from tests.fakes.ota_cloud import SITE, OtaCloud, assigned, born, manifest, report, upload

ABOUT = {"device_id": "hvac-001", "current_version": "1.0.0", "device_type": "hvac"}
WANTED = {"device_id": "hvac-001", "version": "1.10.0", "device_type": "hvac"}


def test_a_device_is_told_of_its_update_and_gets_it_signed(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)

    async def work(updates: Updates) -> None:
        published = manifest(cloud.author, notes="quieter fans")
        await updates.take([born("hvac-001"), published, *upload(cloud.author)])
        said = await cloud.call(updates, "check_update", ABOUT, caller="hvac-001")
        assert (said["update"], said["version"], said["size"]) == (True, "1.10.0", len(IMAGE))
        assert said["release_notes"] == "quieter fans"
        assert base64.b64decode(said["signature"]) == published.payload
        image = b""
        more = True
        while more:
            part = WANTED | {"offset": len(image)}
            got = await cloud.call(updates, "download_firmware", part, caller="hvac-001")
            image, more = image + got["data"], got["more"]
        release = firmware.read(suit.read(base64.b64decode(said["signature"])))
        assert image == IMAGE
        assert release.image == said["image"]
        events = [row.event for row in await updates.registry.audit()]
        assert events.count("download") == 1
        newest = await cloud.call(
            updates, "check_update", ABOUT | {"current_version": "1.10"}, caller="hvac-001"
        )
        assert newest == {"update": False, "version": "1.10"}

    cloud.run(work)


@pytest.mark.parametrize("caller", ["hvac-002", "cloud:operator:ann", "gateway"])
def test_nobody_asks_about_another(caller: str, tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)

    async def work(updates: Updates) -> None:
        await updates.take([born("hvac-001"), manifest(cloud.author), *upload(cloud.author)])
        for capability, data in (("check_update", ABOUT), ("download_firmware", WANTED)):
            with pytest.raises(RefusedError, match="itself alone"):
                await cloud.call(updates, capability, data, caller=caller)

    cloud.run(work)


def test_a_revoked_device_gets_nothing(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    cloud.banned.add("hvac-001")

    async def work(updates: Updates) -> None:
        await updates.take([born("hvac-001"), manifest(cloud.author)])
        with pytest.raises(RefusedError, match="revoked"):
            await cloud.call(updates, "check_update", ABOUT, caller="hvac-001")

    cloud.run(work)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"device_type": "energy"}, "another type"),
        ({"current_version": "new"}, "numbers and dots"),
        ({"current_version": None}, "current_version is missing"),
        ({"device_id": ""}, "device_id is missing"),
    ],
)
def test_what_is_wrong_with_a_question_is_named(
    change: dict[str, Any], what: str, tmp_path: Path
) -> None:
    cloud = OtaCloud(tmp_path)

    async def work(updates: Updates) -> None:
        await updates.take([born("hvac-001"), manifest(cloud.author)])
        with pytest.raises(RefusedError, match=what):
            await cloud.call(updates, "check_update", ABOUT | change, caller="hvac-001")

    cloud.run(work)


def test_a_device_that_a_campaign_has_not_chosen_is_offered_nothing(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    release = read(cloud.author.manifest())

    async def work(updates: Updates) -> None:
        await updates.take([born("hvac-001"), born("hvac-002"), manifest(cloud.author)])
        plan = {"name": "a", "release": release.digest.hex(), "groups": [{"count": 1}, {}]}
        await cloud.call(updates, "campaign_create", plan)
        (chosen,) = assigned(await updates.tick())
        for name in ("hvac-001", "hvac-002"):
            data = ABOUT | {"device_id": name}
            said = await cloud.call(updates, "check_update", data, caller=name)
            assert said["update"] is (name == chosen)

    cloud.run(work)


def test_an_image_that_is_not_uploaded_or_named_is_said(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)

    async def work(updates: Updates) -> None:
        await updates.take([born("hvac-001"), manifest(cloud.author)])
        for change, what in (
            ({}, "not uploaded yet"),
            ({"version": "9"}, "no such release"),
            ({"offset": len(IMAGE)}, "offset"),
            ({"offset": "1"}, "offset"),
        ):
            with pytest.raises(RefusedError, match=what):
                await cloud.call(updates, "download_firmware", WANTED | change, caller="hvac-001")

    cloud.run(work)


def test_operators_see_releases_uploads_and_the_audit(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    release = read(cloud.author.manifest())

    async def work(updates: Updates) -> None:
        await updates.take([manifest(cloud.author)])
        (row,) = (await cloud.call(updates, "releases"))["releases"]
        assert (row["site"], row["class"], row["current"]) == (SITE, "hvac", True)
        status = await cloud.call(updates, "firmware_status", {"release": release.digest.hex()})
        assert (status["complete"], status["chunks_done"]) == (False, 0)
        assert status["missing"][:2] == [0, 1]
        await updates.take(upload(cloud.author))
        assert (await cloud.call(updates, "firmware_status", {"image": release.image}))["complete"]
        assert not (await cloud.call(updates, "firmware_status", {"image": "00"}))["known"]
        unknown = {"release": "00" * 32}
        assert not (await cloud.call(updates, "firmware_status", unknown))["known"]
        rows = (await cloud.call(updates, "update_audit", {"limit": 1}))["audit"]
        assert [one["event"] for one in rows] == ["image-whole"]
        with pytest.raises(RefusedError, match="limit"):
            await cloud.call(updates, "update_audit", {"limit": 0})

    cloud.run(work)


def test_an_author_is_told_why_a_release_was_refused(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    forged = manifest(cloud.author, by=[signer()])

    async def work(updates: Updates) -> None:
        await updates.take([forged])
        asked = {"release": read(forged.payload).digest.hex()}
        said = await cloud.call(updates, "firmware_status", asked)
        assert not said["known"]
        assert "valid signatures" in said["refused"]

    cloud.run(work)


def test_a_release_is_revoked_where_it_is(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    digest = read(cloud.author.manifest()).digest.hex()

    async def work(updates: Updates) -> None:
        await updates.take([born("hvac-001"), manifest(cloud.author), *upload(cloud.author)])
        said = await cloud.calling(updates, "revoke_release", {"release": digest})
        assert said[0].topic == f"v1/{SITE}/ota/head"
        checked = await cloud.call(updates, "check_update", ABOUT, caller="hvac-001")
        assert checked["update"] is False
        for wrong in ({"release": digest, "site": "b"}, {"release": "zz"}, {}):
            with pytest.raises(RefusedError):
                await cloud.call(updates, "revoke_release", wrong)

    cloud.run(work)


def test_a_campaign_is_paused_resumed_and_aborted(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    digest = read(cloud.author.manifest()).digest

    async def work(updates: Updates) -> None:
        await updates.take([born("hvac-001"), born("hvac-002"), manifest(cloud.author)])
        plan = {"name": "a", "release": digest.hex(), "rate_per_min": 1.0}
        await cloud.call(updates, "campaign_create", plan)
        (first,) = assigned(await updates.tick())
        paused = await cloud.call(updates, "campaign_pause", {"name": "a"})
        assert (paused["standing"], paused["why"]) == ("paused", "by cloud:operator:ann")
        cloud.clock.now_us += 120_000_000
        assert not await updates.tick()
        await cloud.call(updates, "campaign_resume", {"name": "a"})
        assert len(assigned(await updates.tick())) == 1
        await updates.take([report(first, "DOWNLOADING", release=digest, chunks=9)])
        said = await cloud.calling(updates, "campaign_abort", {"name": "a"})
        words = assigned(said)
        assert {word.order for word in words.values()} == {"cancel"}
        assert {word.version for word in words.values()} == {2}
        assert (await cloud.call(updates, "campaign_list"))["campaigns"][0]["standing"] == "aborted"

    cloud.run(work)


@pytest.mark.parametrize(
    ("plan", "what"),
    [
        ({"name": "a", "release": "00" * 32}, "no such release"),
        ({"name": "a b", "release": "00" * 32}, "name is letters"),
        ({"name": "known"}, "misses a field"),
    ],
)
def test_a_campaign_that_cannot_be_is_refused(
    plan: dict[str, Any], what: str, tmp_path: Path
) -> None:
    cloud = OtaCloud(tmp_path)

    async def work(updates: Updates) -> None:
        with pytest.raises(RefusedError, match=what):
            await cloud.call(updates, "campaign_create", plan)
        assert not updates.campaigns

    cloud.run(work)


def test_a_name_is_used_once_and_others_are_unknown(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    digest = read(cloud.author.manifest()).digest.hex()

    async def work(updates: Updates) -> None:
        await updates.take([manifest(cloud.author)])
        await cloud.call(updates, "campaign_create", {"name": "a", "release": digest})
        with pytest.raises(RefusedError, match="of this name"):
            await cloud.call(updates, "campaign_create", {"name": "a", "release": digest})
        with pytest.raises(RefusedError, match="no campaign"):
            await cloud.call(updates, "campaign_pause", {"name": "b"})

    cloud.run(work)


def test_a_device_has_no_say_over_campaigns(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)

    async def work(updates: Updates) -> None:
        for capability in ("campaign_abort", "revoke_release", "releases"):
            with pytest.raises(RefusedError, match="only operators"):
                await cloud.call(updates, capability, {"name": "a"}, caller="hvac-001")
        with pytest.raises(RefusedError, match="no such capability"):
            await cloud.call(updates, "reboot", {})
        with pytest.raises(RefusedError, match="not a map"):
            await cloud.call(updates, "releases", [])

    cloud.run(work)


def test_versions_are_ordered_by_their_numbers() -> None:
    keys = [ota_calls.version_key(text) for text in ("1.2", "v1.10.0", "1.10.1", "2")]
    assert keys == sorted(keys)
    assert ota_calls.version_key("1.0") == ota_calls.version_key("1")
    with pytest.raises(UsageError):
        ota_calls.version_key("1.x")
