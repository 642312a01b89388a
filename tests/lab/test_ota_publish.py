import asyncio
from pathlib import Path

import pytest

from plantroom.lab import ota_publish
from plantroom.lab.layout import Layout
from plantroom.lab.ota_publish import Publication, Watched
from plantroom.wire import envelope, ota_messages, topics
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import EnvelopeError, UnreachableError, UsageError
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import Report
from plantroom.wire.ota_states import State
from tests.fakes import ota_author
from tests.fakes.ota_author import IMAGE, Author

RELEASE = ota_author.read(Author().manifest())


def state(device: str, state: State, release: bytes = RELEASE.digest, code: str = "") -> Message:
    report = Report(number=1, state=state, release=release, code=code)
    topic = topics.build("ota/{device}/state", "building-1", device)
    return Message(topic=topic, payload=ota_messages.encode(report))


def present(device: str, kind: str = "hvac") -> Message:
    presence = Presence(online=True, epoch=1, info={"kind": kind, "firmware": "1.0.0"})
    topic = topics.build("presence/{device}", "building-1", device)
    return Message(topic=topic, payload=envelope.encode(presence))


def test_it_is_over_when_every_device_of_the_class_has_come_to_an_end() -> None:
    watched = Watched(RELEASE, "hvac")
    for message in (present("hvac-001"), present("hvac-002"), present("energy-001", "energy")):
        assert watched.take(message) is None
    assert watched.take(state("hvac-001", "UPDATED", release=bytes(32))) is None
    assert not watched.ended
    watched.take(state("hvac-001", "UPDATED"))
    assert watched.missing == ["hvac-002"]
    watched.take(state("hvac-002", "DOWNLOADING"))
    assert not watched.ended
    watched.take(state("hvac-002", "FAILED", code="download"))
    assert watched.ended
    assert {one.state for one in watched.reports.values()} == {"UPDATED", "FAILED"}


def test_messages_of_another_version_are_refused() -> None:
    topic = topics.build("ota/{device}/state", "building-1", "x")
    with pytest.raises(EnvelopeError):
        Watched(RELEASE, "hvac").take(Message(topic=topic, payload=b"\xa0"))


def publication(kind: str) -> Publication:
    return Publication(
        manifest=Author().manifest(),
        image=IMAGE,
        site="building-1",
        kind=kind,
        rollout="all",
        patience_s=1.0,
    )


def publish(layout: Layout, wanted: Publication) -> None:
    asyncio.run(ota_publish.publish(layout, wanted, tell=print, show=print))


def test_a_manifest_goes_to_its_own_class(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another class"):
        publish(Layout(tmp_path), publication("energy"))


def test_where_nothing_runs_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        publish(Layout(tmp_path), publication("hvac"))
