from pathlib import Path

import pytest

from plantroom.certs import signatures, signing_keys
from plantroom.lab import ota_keys
from plantroom.lab.building import Names, simulated
from plantroom.lab.layout import Layout
from plantroom.wire import trust


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state")


def test_everybody_is_handed_the_same_trust_and_the_cloud_alone_the_head_key(
    layout: Layout,
) -> None:
    devices = simulated(2, seed=1, names=Names())
    ota_keys.prepare(layout, devices)
    document = (layout.ota / "trust.cbor").read_bytes()
    places = [layout.device(one.name) / "ota-trust.cbor" for one in devices]
    places += [layout.gateway / "ota" / "trust.cbor", layout.cloud / "ota" / "trust.cbor"]
    assert [place.read_bytes() for place in places] == [document] * 4
    made = trust.first(document, signatures.verify)
    assert (made.root.threshold, len(made.root.keys)) == (2, 3)
    head_key = layout.cloud / "ota" / "head.pem"
    assert head_key.stat().st_mode & 0o777 == 0o600
    assert signing_keys.public_key(str(head_key)).kid in made.head.keys
    author = signing_keys.public_key(str(layout.ota / "author.pem"))
    assert author.kid in made.author.keys
    assert not [*layout.gateway.rglob("*.pem")]


def test_what_is_there_stays(layout: Layout) -> None:
    devices = simulated(1, seed=1, names=Names())
    ota_keys.prepare(layout, devices)
    before = (layout.ota / "trust.cbor").read_bytes()
    given = layout.device("hvac-001") / "ota-trust.cbor"
    given.write_bytes(b"another")
    ota_keys.prepare(layout, devices)
    assert given.read_bytes() == b"another"
    assert (layout.ota / "trust.cbor").read_bytes() == before
