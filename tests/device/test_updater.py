"""The updater as a whole, over a simulated disk and gateway: what it does and what it says."""

import pytest

from plantroom.device import updater_part
from plantroom.device.updater_download import Patience
from plantroom.wire import ota_messages, topics
from plantroom.wire.ota_messages import Assign
from tests.fakes import ota_author
from tests.fakes.ota_author import IMAGE, NOW_US
from tests.fakes.ota_device import DEVICE, HEAD_TOPIC, MANIFEST_TOPIC, SITE, SimDevice, serving

ASSIGN_TOPIC = topics.build("ota/{device}/assign", SITE, DEVICE)
WHOLE = ["QUEUED", "INITIATED", "DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED"]
LARGE = bytes(range(256)) * 2560  # 40 chunks of 16 KiB


@pytest.fixture
def device() -> SimDevice:
    made = SimDevice(serve=serving(IMAGE, LARGE))
    made.boot()
    return made


def assign(
    device: SimDevice, version: int, order: str, manifest: bytes, campaign: str = ""
) -> None:
    made = Assign(
        version=version,
        order=order,  # type: ignore[arg-type]
        release=ota_author.read(manifest).digest,
        campaign=campaign,
    )
    device.publish(ASSIGN_TOPIC, ota_messages.encode(made))


def settle(device: SimDevice, rounds: int = 20) -> None:
    device.run(lambda: False, rounds_max=rounds)


def test_a_release_that_the_head_names_is_installed_and_said_by_the_new_image(
    device: SimDevice,
) -> None:
    device.release(device.author.manifest())
    assert device.run(lambda: device.state == "UPDATED")
    assert device.states == WHOLE
    assert device.running == IMAGE
    last = device.reports[-1]
    assert (last.running_version, last.running_sequence) == ("1.10.0", 10)
    assert last.running_digest == ota_author.digest(IMAGE)
    before = [one for one in device.reports if one.state == "UPDATING"]
    assert before[0].running_version == "1.0.0"  # said by the old image
    assert [one.number for one in device.reports] == sorted({one.number for one in device.reports})


def test_nothing_is_asked_for_before_a_head_names_it(device: SimDevice) -> None:
    device.publish(MANIFEST_TOPIC, device.author.manifest())
    settle(device)
    assert device.states == ["WAITING(head)"]
    assert not device.asked


def test_a_head_before_its_manifest_waits(device: SimDevice) -> None:
    manifest = device.author.manifest()
    device.publish(HEAD_TOPIC, device.author.head(1, [manifest]))
    settle(device)
    assert device.states == ["WAITING(manifest)"]
    device.publish(MANIFEST_TOPIC, manifest)
    assert device.run(lambda: device.state == "UPDATED")


def test_redelivery_at_every_reconnect_changes_nothing(device: SimDevice) -> None:
    device.release(device.author.manifest())
    assert device.run(lambda: device.state == "UPDATED")
    asked = len(device.asked)
    for _ in range(3):
        device.boot()
        settle(device)
    assert len(device.asked) == asked
    assert device.state == "UPDATED"
    assert device.record.active.sequence == 10


def test_an_empty_retained_message_withdraws_nothing(device: SimDevice) -> None:
    device.release(device.author.manifest())
    for topic in (MANIFEST_TOPIC, HEAD_TOPIC, ASSIGN_TOPIC):
        device.deliver(topic, b"")
    assert device.run(lambda: device.state == "UPDATED")


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("wrong-vendor", {"vendor": "other.test"}),
        ("wrong-class", {"kind": "energy"}),
        ("wrong-device", {"device": "spiffe://building-1.smart.local/agent/hvac-002"}),
        ("bad-signature", {"by": [ota_author.signer()]}),
    ],
)
def test_a_refused_manifest_is_said_with_its_code(
    device: SimDevice, code: str, changes: dict[str, object]
) -> None:
    device.publish(MANIFEST_TOPIC, device.author.manifest(**changes))  # type: ignore[arg-type]
    device.step()
    assert device.states == [f"REJECTED({code})"]
    settle(device)
    assert device.states == [f"REJECTED({code})"]  # it stays in sight
    device.publish(MANIFEST_TOPIC, device.author.manifest())
    settle(device)
    assert device.state == "WAITING(head)"


def test_a_fuzzed_and_a_truncated_envelope_are_refused_and_then_the_true_one_taken(
    device: SimDevice,
) -> None:
    manifest = device.author.manifest()
    for forged in (manifest[:-9], b"\xff" + manifest, manifest[:80] + b"\0" + manifest[81:]):
        device.deliver(MANIFEST_TOPIC, forged)
        device.step()
        assert device.state.startswith("REJECTED(")
    device.release(manifest)
    assert device.run(lambda: device.state == "UPDATED")


def test_an_older_release_is_refused_after_an_update(device: SimDevice) -> None:
    device.release(device.author.manifest())
    assert device.run(lambda: device.state == "UPDATED")
    old = device.author.manifest(9)
    device.publish(HEAD_TOPIC, device.author.head(2, [old]))
    device.publish(MANIFEST_TOPIC, old)
    settle(device)
    assert device.state == "REJECTED(rollback)"
    assert device.running == IMAGE


def test_an_older_head_is_refused_after_a_restart_too(device: SimDevice) -> None:
    manifest = device.author.manifest()
    device.publish(HEAD_TOPIC, device.author.head(5, [manifest]))
    device.retained.clear()
    device.boot()
    device.deliver(HEAD_TOPIC, device.author.head(4, [manifest]))
    device.step()
    assert device.state == "REJECTED(head-rollback)"


def test_an_expired_head_begins_nothing_and_a_fresh_one_does(device: SimDevice) -> None:
    manifest = device.author.manifest()
    device.publish(MANIFEST_TOPIC, manifest)
    device.publish(HEAD_TOPIC, device.author.head(1, [manifest], lives_s=-1))
    settle(device)
    assert device.states == ["REJECTED(head-expired)"]
    assert not device.asked
    device.publish(HEAD_TOPIC, device.author.head(2, [manifest]))
    assert device.run(lambda: device.state == "UPDATED")


def test_with_a_clock_of_1970_it_waits_until_the_clock_is_set(device: SimDevice) -> None:
    device.clock.offset_us = 0
    device.release(device.author.manifest())
    settle(device)
    assert device.states == ["WAITING(clock)"]
    device.clock.offset_us = NOW_US
    assert device.run(lambda: device.state == "UPDATED")


def test_what_has_begun_finishes_though_the_head_expires_and_the_process_dies(
    device: SimDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updater_part, "SAVE_EVERY", 8)
    manifest = device.author.manifest(image=LARGE)
    device.patience = Patience(window=4)
    device.boot()
    device.release(manifest)
    assert device.run(lambda: len(device.asked) > 6)
    device.clock.offset_us += 30 * 86_400_000_000
    device.storage.cut()  # and its power is cut
    device.boot()
    assert device.run(lambda: device.state == "UPDATED")
    assert any(one.text.endswith("chunks are there") for one in device.reports)
    assert device.running == LARGE


def test_a_campaign_waits_for_its_assignment_and_its_name_is_in_every_report(
    device: SimDevice,
) -> None:
    manifest = device.author.manifest()
    device.publish(MANIFEST_TOPIC, manifest)
    device.publish(HEAD_TOPIC, device.author.head(1, [manifest], rollout="assigned"))
    settle(device)
    assert device.states == ["WAITING(assignment)"]
    assign(device, 1, "install", manifest, "spring")
    assert device.run(lambda: device.state == "UPDATED")
    assert device.reports[-1].campaign == "spring"


def test_an_older_assignment_is_ignored(device: SimDevice) -> None:
    manifest = device.author.manifest()
    device.publish(MANIFEST_TOPIC, manifest)
    device.publish(HEAD_TOPIC, device.author.head(1, [manifest], rollout="assigned"))
    assign(device, 2, "none", manifest)
    assign(device, 1, "install", manifest)
    settle(device)
    assert device.states == ["WAITING(assignment)"]


def test_a_cancel_in_the_middle_of_a_download_stops_it(device: SimDevice) -> None:
    manifest = device.author.manifest(image=LARGE)
    device.patience = Patience(window=2)
    device.boot()
    device.publish(MANIFEST_TOPIC, manifest)
    device.publish(HEAD_TOPIC, device.author.head(1, [manifest], rollout="assigned"))
    assign(device, 1, "install", manifest)
    assert device.run(lambda: len(device.asked) > 4)
    assign(device, 2, "cancel", manifest)
    settle(device)
    asked = len(device.asked)
    settle(device)
    assert device.state == "CANCELED"
    assert len(device.asked) == asked
    assert "part" not in device.storage.durable
    assign(device, 3, "install", manifest)
    assert device.run(lambda: device.state == "UPDATED")


def test_a_revocation_in_the_middle_of_a_download_stops_it(device: SimDevice) -> None:
    manifest = device.author.manifest(image=LARGE)
    device.patience = Patience(window=2)
    device.boot()
    device.release(manifest)
    assert device.run(lambda: len(device.asked) > 4)
    device.publish(HEAD_TOPIC, device.author.head(2, [manifest], revoked=[manifest]))
    settle(device)
    assert device.state == "REJECTED(release-revoked)"


def test_a_withdrawn_author_key_stops_a_download(device: SimDevice) -> None:
    manifest = device.author.manifest(image=LARGE)
    device.patience = Patience(window=2)
    device.boot()
    device.release(manifest)
    assert device.run(lambda: len(device.asked) > 4)
    device.author.authors = [ota_author.signer()]
    device.publish(topics.build("ota/trust/{n}", SITE, "2"), device.author.trust(2))
    settle(device)
    assert device.state == "WAITING(manifest)"
    assert device.record.trial is None


def test_a_newer_release_supersedes_one_on_its_way(device: SimDevice) -> None:
    device.patience = Patience(window=2)
    device.boot()
    device.release(device.author.manifest(image=LARGE))
    assert device.run(lambda: len(device.asked) > 4)
    device.release(device.author.manifest(11), 2)
    assert device.run(lambda: device.state == "UPDATED")
    assert device.running == IMAGE
    assert device.record.active.sequence == 11


def test_a_bad_image_rolls_back_and_is_not_installed_again(device: SimDevice) -> None:
    device.release(device.author.manifest())
    assert device.run(lambda: device.state == "UPDATED")
    device.healthy = lambda image: image != LARGE
    device.release(device.author.manifest(11, LARGE), 2)
    assert device.run(lambda: device.state == "ROLLED_BACK")
    assert device.running == IMAGE
    asked = len(device.asked)
    for _ in range(3):
        device.boot()
        settle(device)
    assert len(device.asked) == asked
    assert device.state == "ROLLED_BACK"
    assert "self-test" in device.reports[-1].text
    assert device.reports[-1].running_version == "1.10.0"  # said by the image before
    device.healthy = lambda _image: True
    device.release(device.author.manifest(12, LARGE), 3)
    assert device.run(lambda: device.state == "UPDATED")


def test_an_image_that_reaches_no_gateway_rolls_back(device: SimDevice) -> None:
    device.release(device.author.manifest())
    assert device.run(lambda: device.state == "UPDATING")
    device.online = False
    assert device.run(lambda: device.record.last is not None)
    assert device.record.last is not None
    assert device.record.last.state == "ROLLED_BACK"
    assert device.running == b""


def test_messages_of_others_are_left_to_others(device: SimDevice) -> None:
    assert not device.updater.receive("v1/building-1/call/hvac-001/read_sensors/x", b"", 0)
    assert not device.updater.receive("no topic of ours", b"", 0)
    assert device.updater.receive(ASSIGN_TOPIC, b"rubbish", 0)
    assert set(device.updater.filters) == {
        f"v1/{SITE}/ota/{rest}"
        for rest in ("trust/+", "head", "hvac/manifest", "hvac-001/assign", "hvac-001/chunk/+")
    }
