import dataclasses

import pytest

from plantroom.certs import light_signatures
from plantroom.wire import ota_rules
from plantroom.wire.head import Pin
from plantroom.wire.ota_documents import Documents
from plantroom.wire.ota_messages import Assign
from plantroom.wire.ota_rules import Decision, Running
from tests.fakes import ota_author
from tests.fakes.ota_author import DEVICE, IMAGE, NOW_S, NOW_US, Author


class Situation:
    """A device with its author; `decide` says what it does."""

    def __init__(self) -> None:
        self.author = Author()
        self.documents = Documents(
            self.author.trust(),
            verify=light_signatures.verify,
            target=self.author.target,
            releases_max=2,
        )
        self.running = Running(sequence=9, release=bytes(32))
        self.assign: Assign | None = None

    def publish(self, *manifests: bytes, version: int = 1, **changes: object) -> bytes:
        for manifest in manifests:
            self.documents.feed_manifest(manifest)
        self.documents.feed_head(self.author.head(version, manifests, **changes))  # type: ignore[arg-type]
        return ota_author.read(manifests[-1]).digest

    def decide(self) -> Decision:
        class_id = self.author.target.class_id
        return ota_rules.decide(self.documents, class_id, self.running, self.assign)

    def begin(self, wall_us: int = NOW_US) -> Decision:
        return ota_rules.may_begin(
            self.documents, self.decide(), wall_us=wall_us, device=DEVICE, assign=self.assign
        )


@pytest.fixture
def situation() -> Situation:
    return Situation()


def test_without_a_head_nothing_happens(situation: Situation) -> None:
    situation.documents.feed_manifest(situation.author.manifest())
    decision = situation.decide()
    assert (decision.verdict, decision.code) == ("WAITING", "head")


def test_a_class_that_the_head_does_not_name_is_idle(situation: Situation) -> None:
    situation.documents.feed_head(situation.author.head(1))
    assert situation.decide().verdict == "IDLE"


def test_a_head_whose_manifest_has_not_come_is_no_alarm(situation: Situation) -> None:
    situation.documents.feed_head(situation.author.head(1, [situation.author.manifest()]))
    decision = situation.decide()
    assert (decision.verdict, decision.code) == ("WAITING", "manifest")


def test_a_newer_release_is_queued_and_begins(situation: Situation) -> None:
    digest = situation.publish(situation.author.manifest())
    decision = situation.begin()
    assert decision.verdict == "QUEUED"
    assert decision.release is not None
    assert decision.release.digest == digest


def test_what_runs_is_current_however_often_it_is_said(situation: Situation) -> None:
    digest = situation.publish(situation.author.manifest())
    situation.running = Running(sequence=10, release=digest)
    assert situation.decide().verdict == "ALREADY_CURRENT"


def test_an_older_release_is_refused_also_by_a_stolen_head_key(situation: Situation) -> None:
    situation.publish(situation.author.manifest(8))
    decision = situation.decide()
    assert (decision.verdict, decision.code) == ("REJECTED", "rollback")


def test_an_equal_number_of_another_release_is_refused(situation: Situation) -> None:
    situation.publish(situation.author.manifest(9, IMAGE + b"x"))
    decision = situation.decide()
    assert (decision.verdict, decision.code) == ("REJECTED", "equivocation")


def test_a_revoked_release_is_refused(situation: Situation) -> None:
    manifest = situation.author.manifest()
    situation.publish(manifest, revoked=[manifest])
    decision = situation.decide()
    assert (decision.verdict, decision.code) == ("REJECTED", "release-revoked")


def test_a_release_that_has_failed_here_is_not_tried_for_ever(situation: Situation) -> None:
    digest = situation.publish(situation.author.manifest())
    situation.running = dataclasses.replace(situation.running, known_bad=frozenset({digest}))
    decision = situation.decide()
    assert (decision.verdict, decision.code) == ("REJECTED", "known-bad")


def test_a_head_that_renumbers_a_genuine_release_is_refused(situation: Situation) -> None:
    manifest = situation.author.manifest()
    read = ota_author.read(manifest)
    situation.documents.feed_manifest(manifest)
    classes = {read.class_id: Pin(sequence=11, digest=read.digest)}
    situation.documents.feed_head(situation.author.head(1, classes=classes))
    decision = situation.decide()
    assert (decision.verdict, decision.code) == ("REJECTED", "not-in-head")


def test_a_rollout_by_campaign_waits_for_its_assignment(situation: Situation) -> None:
    digest = situation.publish(situation.author.manifest(), rollout="assigned")
    decision = situation.begin()
    assert (decision.verdict, decision.code) == ("WAITING", "assignment")
    situation.assign = Assign(version=1, order="install", release=bytes(32))
    assert situation.begin().code == "assignment"
    situation.assign = Assign(version=2, order="install", release=digest)
    assert situation.begin().verdict == "QUEUED"
    situation.assign = Assign(version=3, order="cancel", release=digest)
    assert situation.begin().verdict == "CANCELED"


def test_an_assignment_cannot_bring_in_what_the_head_does_not_name(situation: Situation) -> None:
    other = situation.author.manifest(12)
    situation.documents.feed_head(situation.author.head(1))
    situation.documents.feed_manifest(other)
    digest = ota_author.read(other).digest
    situation.assign = Assign(version=1, order="install", release=digest)
    assert situation.begin().verdict == "IDLE"


def test_an_expired_head_is_a_freeze_and_refused(situation: Situation) -> None:
    situation.publish(situation.author.manifest(), lives_s=60)
    assert situation.begin(NOW_US + 59_000_000).verdict == "QUEUED"
    decision = situation.begin(NOW_US + 60_000_000)
    assert (decision.verdict, decision.code) == ("REJECTED", "head-expired")


def test_an_expired_trust_document_is_refused(situation: Situation) -> None:
    situation.documents.feed_trust(situation.author.trust(2, expires_s=NOW_S + 60))
    situation.publish(situation.author.manifest())
    assert situation.begin().verdict == "QUEUED"
    decision = situation.begin(NOW_US + 60_000_000)
    assert (decision.verdict, decision.code) == ("REJECTED", "trust-expired")


@pytest.mark.parametrize("wall_us", [0, 86_400_000_000, NOW_US - 3 * 86_400_000_000])
def test_a_clock_that_is_not_set_judges_nothing(situation: Situation, wall_us: int) -> None:
    situation.publish(situation.author.manifest(), lives_s=-3600)  # long expired, unseen
    decision = situation.begin(wall_us)
    assert (decision.verdict, decision.code) == ("WAITING", "clock")


def test_a_campaigns_window_and_jitter_are_kept(situation: Situation) -> None:
    digest = situation.publish(situation.author.manifest(), rollout="assigned")
    situation.assign = Assign(
        version=1,
        order="install",
        release=digest,
        not_before_s=NOW_S + 100,
        not_after_s=NOW_S + 1000,
        jitter_s=200,
    )
    offset_s = ota_rules.jitter_s(DEVICE, 200)
    begins_us = NOW_US + (100 + offset_s) * 1_000_000
    assert situation.begin(begins_us - 1_000_000).code == "schedule"
    assert situation.begin(begins_us).verdict == "QUEUED"
    assert situation.begin(NOW_US + 1_000_000_000).code == "schedule"


def test_jitter_is_always_the_same_and_spread() -> None:
    assert ota_rules.jitter_s("a", 0) == 0
    places = [ota_rules.jitter_s(f"device-{number}", 100) for number in range(1000)]
    assert places == [ota_rules.jitter_s(f"device-{number}", 100) for number in range(1000)]
    assert min(places) < 5
    assert max(places) > 94
