import pytest

from plantroom.certs import light_signatures
from plantroom.device.updater_trusted import HEAD_FILE, MANIFEST_FILE, TRUST_FILE, Trusted
from plantroom.wire.errors import RejectedError
from tests.fakes import ota_author
from tests.fakes.ota_author import Author
from tests.fakes.ota_device import SimStorage


def trusted(author: Author, storage: SimStorage, anchor: bytes) -> Trusted:
    return Trusted(storage, anchor, target=author.target, verify=light_signatures.verify)


def test_what_was_adopted_is_known_after_a_restart() -> None:
    author, storage = Author(), SimStorage()
    anchor = author.trust()
    one = trusted(author, storage, anchor)
    manifest = author.manifest()
    assert one.feed_trust(author.trust(2))
    assert one.feed_head(author.head(3, [manifest]))
    assert one.feed_manifest(manifest)
    assert not one.feed_manifest(manifest)
    release = ota_author.read(manifest)
    assert not one.has_begun(release)
    one.begun(release)
    again = trusted(author, storage, anchor)
    assert again.documents.trust.version == 2
    assert again.documents.head == one.documents.head
    assert again.has_begun(release)
    assert [*again.documents.releases] == [release.digest]
    again.ended()
    assert not again.has_begun(release)


def test_an_anchor_that_is_newer_than_what_is_kept_wins() -> None:
    author, storage = Author(), SimStorage()
    one = trusted(author, storage, author.trust())
    one.feed_trust(author.trust(2))
    author.roots = [ota_author.signer() for _ in range(3)]
    assert trusted(author, storage, author.trust(7)).documents.trust.version == 7


@pytest.mark.parametrize("name", [TRUST_FILE, HEAD_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("data", [b"rubbish", b"\xff" * 70_000])
def test_damaged_files_are_forgotten(name: str, data: bytes) -> None:
    author, storage = Author(), SimStorage()
    storage.durable[name] = data
    made = trusted(author, storage, author.trust())
    assert made.documents.trust.version == 1
    assert not made.has_begun(author.release())


def test_no_anchor_no_trust() -> None:
    author = Author()
    with pytest.raises(RejectedError):
        trusted(author, SimStorage(), b"")
