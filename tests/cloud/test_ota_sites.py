"""What sites are told: heads that name what was published, nothing that a device would refuse."""

import pytest

from plantroom.certs import signatures
from plantroom.cloud.ota_sites import Sites
from plantroom.wire import head
from plantroom.wire.errors import RejectedError, UsageError
from plantroom.wire.head import Head
from plantroom.wire.link import Message
from plantroom.wire.ota_documents import Documents
from plantroom.wire.ota_rules import Running, decide
from tests.fakes.ota_author import NOW_S, Author, read, signer

HOME, OTHER = "building-1", "building-2"
ISSUER = "spiffe://smart-building.cloud/agent/ota"


def sites(author: Author, *, signs: bool = True, anchor: bytes = b"") -> Sites:
    return Sites(
        anchor or author.trust(),
        verify=signatures.verify,
        signer=author.heads[0] if signs else None,
        issuer=ISSUER,
    )


def said(messages: list[Message], site: str = HOME) -> Head:
    (message,) = [one for one in messages if one.topic == f"v1/{site}/ota/head"]
    assert message.retain
    return head.read(message.payload)[0]


def test_a_manifest_gets_a_head_that_a_device_acts_on() -> None:
    author = Author()
    anchor, manifest = author.trust(), author.manifest()
    release, messages = sites(author, anchor=anchor).take_manifest(
        HOME, "hvac", manifest, "all", NOW_S
    )
    device = Documents(anchor, verify=signatures.verify, target=author.target)
    device.feed_manifest(manifest)
    device.feed_head(messages[0].payload)
    decision = decide(device, author.target.class_id, Running())
    assert (decision.verdict, decision.release) == ("QUEUED", release)


def test_the_same_manifest_again_changes_nothing() -> None:
    author = Author()
    made = sites(author)
    assert made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)[1]
    assert not made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)[1]


def test_the_next_release_keeps_the_other_classes_and_raises_the_version() -> None:
    author = Author()
    made = sites(author)
    first = said(made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)[1])
    other = author.manifest(3, kind="energy")
    second = said(made.take_manifest(HOME, "energy", other, "assigned", NOW_S)[1])
    assert second.version == first.version + 1
    assert {pin.rollout for pin in second.classes.values()} == {"all", "assigned"}
    assert made.current(HOME, "energy") == read(other)
    assert made.current(OTHER, "energy") is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"by": [signer()]}, "bad-signature"),
        ({"kind": "energy"}, "wrong-class"),
        ({"sequence": 9}, "not-in-head"),
        ({"version": "9.9"}, "equivocation"),
    ],
)
def test_what_a_device_would_refuse_is_not_named(change: dict[str, object], code: str) -> None:
    author = Author()
    made = sites(author)
    made.take_manifest(HOME, "hvac", author.manifest(10), "all", NOW_S)
    with pytest.raises(RejectedError) as raised:
        made.take_manifest(HOME, "hvac", author.manifest(**change), "all", NOW_S)  # type: ignore[arg-type]
    assert raised.value.code == code
    assert made.current(HOME, "hvac") == read(author.manifest(10))


def test_without_a_head_key_manifests_are_registered_and_nothing_is_signed() -> None:
    author = Author()
    made = sites(author, signs=False)
    release, messages = made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)
    assert not messages
    assert made.take_head(HOME, author.head(1, [author.manifest()]))
    assert made.current(HOME, "hvac") == release


def test_a_head_key_that_nobody_trusts_is_named() -> None:
    author = Author()
    made = Sites(author.trust(), verify=signatures.verify, signer=signer(), issuer=ISSUER)
    with pytest.raises(RejectedError, match=r"ota\.head_key_file") as raised:
        made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)
    assert raised.value.code == "head-signature"


def test_a_restart_knows_what_was_known() -> None:
    author = Author()
    anchor = author.trust()
    made = sites(author, anchor=anchor)
    made.take_trust(HOME, author.trust(2))
    release, _ = made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)
    again = sites(author, anchor=anchor)
    again.restore(HOME, made.kept(HOME))
    assert again.documents(HOME).trust.version == 2
    assert again.current(HOME, "hvac") == release
    assert not again.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)[1]


def test_another_anchor_begins_anew() -> None:
    author, stranger = Author(), Author()
    made = sites(author)
    made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)
    again = sites(stranger)
    again.restore(HOME, made.kept(HOME))
    assert again.current(HOME, "hvac") is None
    assert again.documents(HOME).head is None


def test_a_campaign_brings_a_release_to_a_site_for_its_assigned_devices_only() -> None:
    author = Author()
    made = sites(author)
    release, _ = made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)
    messages = made.bring(release.digest, OTHER, NOW_S)
    assert [one.topic for one in messages] == [
        f"v1/{OTHER}/ota/hvac/manifest",
        f"v1/{OTHER}/ota/head",
    ]
    assert said(messages, OTHER).classes[release.class_id].rollout == "assigned"
    assert not made.bring(release.digest, OTHER, NOW_S)
    narrowed = said(made.bring(release.digest, HOME, NOW_S))
    assert narrowed.classes[release.class_id].rollout == "assigned"
    with pytest.raises(UsageError, match="no such release"):
        made.bring(bytes(32), OTHER, NOW_S)


def test_a_revoked_release_is_said_and_not_named_again() -> None:
    author = Author()
    made = sites(author)
    release, _ = made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)
    assert release.digest in said(made.revoke(HOME, release.digest, NOW_S)).revoked
    with pytest.raises(RejectedError, match="revoked"):
        made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)
    with pytest.raises(UsageError, match="no such release"):
        made.revoke(OTHER, release.digest, NOW_S)


def test_a_head_is_renewed_at_half_its_life_and_says_the_same() -> None:
    author = Author()
    made = sites(author)
    old = said(made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)[1])
    half_s = head.EXPIRES_S // 2
    assert not made.due(NOW_S + half_s - 1)
    new = said(made.due(NOW_S + half_s)[HOME])
    assert (new.classes, new.version) == (old.classes, old.version + 1)
    assert new.expires_s == NOW_S + half_s + head.EXPIRES_S
    assert not made.due(NOW_S + half_s)


def test_a_broker_that_was_replaced_is_told_everything() -> None:
    author = Author()
    made = sites(author)
    made.take_trust(HOME, author.trust(2))
    made.take_manifest(HOME, "hvac", author.manifest(), "all", NOW_S)
    assert [one.topic for one in made.standing(HOME)] == [
        f"v1/{HOME}/ota/trust/2",
        f"v1/{HOME}/ota/head",
        f"v1/{HOME}/ota/hvac/manifest",
    ]
    assert not made.standing(OTHER)
