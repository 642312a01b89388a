"""The documents as a machine: every attack on them, each with the code that refuses it."""

import itertools
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from plantroom.certs import light_signatures
from plantroom.wire import cbor, head, suit
from plantroom.wire.errors import RejectedError
from plantroom.wire.head import Pin
from plantroom.wire.ota_documents import Documents
from tests.fakes import ota_author
from tests.fakes.ota_author import IMAGE, Author


def code_of(act: Callable[[bytes], object], data: bytes) -> str:
    with pytest.raises(RejectedError) as caught:
        act(data)
    return caught.value.code


def device(author: Author) -> Documents:
    """A device as it was set up: with the first trust document and nothing else."""
    return Documents(
        author.trust(), verify=light_signatures.verify, target=author.target, releases_max=2
    )


def anchored(data: bytes) -> Documents:
    return Documents(data, verify=light_signatures.verify)


def test_documents_may_come_in_any_order() -> None:
    author = Author()
    manifest = author.manifest()
    named = author.head(1, [manifest])
    anchor = author.trust()
    for order in itertools.permutations(("trust", "head", "manifest")):
        documents = Documents(anchor, verify=light_signatures.verify, target=author.target)
        for what in order:
            if what == "trust":
                assert documents.feed_trust(author.trust(2))
            elif what == "head":
                assert documents.feed_head(named)
            else:
                documents.feed_manifest(manifest)
        assert documents.trust.version == 2
        assert documents.head == head.read(named)[0]
        assert [*documents.manifests.values()] == [manifest]


def test_redelivery_changes_nothing() -> None:
    author = Author()
    documents = device(author)
    manifest = author.manifest()
    named = author.head(1, [manifest])
    for _ in range(2):
        documents.feed_manifest(manifest)
    assert documents.feed_head(named)
    assert not documents.feed_head(named)
    assert not documents.feed_trust(author.trust())
    assert len(documents.releases) == 1


def test_an_anchor_that_is_none_is_refused() -> None:
    author = Author()
    data = author.trust(by=author.roots[:1])
    assert code_of(anchored, data) == "trust-threshold"


# --- the manifest ------------------------------------------------------------


def test_a_manifest_of_a_stranger_is_refused() -> None:
    author = Author()
    data = author.manifest(by=[ota_author.signer()])
    assert code_of(device(author).feed_manifest, data) == "bad-signature"
    unsigned = author.manifest(by=[])
    assert code_of(device(author).feed_manifest, unsigned) == "bad-signature"


def test_attackers_key_under_the_authors_name_is_refused() -> None:
    author = Author()
    attacker = ota_author.signer()
    table = dict(cbor2.loads(author.manifest()).value)
    digest = cbor2.loads(table[2])[0]
    protected = cbor.dumps({1: -19, 4: author.authors[0].key.kid})
    forged = attacker.sign(cbor.dumps(["Signature1", protected, b"", digest]))
    block = cbor.dumps(cbor2.CBORTag(18, [protected, {}, None, forged]))
    data = suit.build_of(table[3], [block], members={"#chunks": table["#chunks"]})
    assert code_of(device(author).feed_manifest, data) == "bad-signature"


def test_with_a_threshold_of_two_one_signer_twice_is_refused() -> None:
    author = Author()
    author.authors = [ota_author.signer(), ota_author.p256_signer()]
    author.author_threshold = 2
    one = author.authors[0]
    for by in ([one], [one, one]):
        data = author.manifest(by=by)
        assert code_of(device(author).feed_manifest, data) == "bad-signature"
    assert device(author).feed_manifest(author.manifest()).sequence == 10


def test_a_strangers_signature_beside_enough_genuine_ones_harms_nobody() -> None:
    """Envelopes can be changed by anyone: so it is the manifest's digest that the head pins."""
    author = Author()
    documents = device(author)
    plain, more = author.manifest(), suit.countersign(author.manifest(), ota_author.signer())
    documents.feed_head(author.head(1, [plain]))
    assert documents.feed_manifest(more) == documents.feed_manifest(plain)


@pytest.mark.parametrize(
    ("field", "code"),
    [("vendor", "wrong-vendor"), ("kind", "wrong-class"), ("device", "wrong-device")],
)
def test_a_release_for_others_is_refused(field: str, code: str) -> None:
    author = Author()
    changes: dict[str, Any] = {field: "spiffe://other.test/agent/x"}
    data = author.manifest(**changes)
    assert code_of(device(author).feed_manifest, data) == code


def test_mix_and_match_an_old_release_with_the_new_head_is_refused() -> None:
    author = Author()
    old, new = author.manifest(9), author.manifest(10)
    documents = device(author)
    documents.feed_head(author.head(2, [new]))
    assert code_of(documents.feed_manifest, old) == "not-in-head"
    assert documents.feed_manifest(author.manifest(11)).sequence == 11  # its head may be on its way


def test_an_equal_number_with_another_digest_is_refused() -> None:
    author = Author()
    documents = device(author)
    documents.feed_head(author.head(1, [author.manifest(10)]))
    other = author.manifest(10, IMAGE + b"x")
    assert code_of(documents.feed_manifest, other) == "equivocation"


def test_truncated_flipped_and_padded_envelopes_are_refused() -> None:
    author = Author()
    data = author.manifest(image=b"small")
    for number in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[number] ^= 0x10
        for forged in (data[:number], bytes(flipped), data + bytes(number + 1)):
            documents = device(author)
            with pytest.raises(RejectedError):
                documents.feed_manifest(forged)
            assert not documents.releases


# --- the head ----------------------------------------------------------------


def test_a_head_of_a_stranger_is_refused() -> None:
    author = Author()
    for by in (ota_author.signer(), author.authors[0], author.roots[0]):
        data = author.head(by=by)
        assert code_of(device(author).feed_head, data) == "head-signature"


def test_an_older_head_and_a_second_one_of_the_same_version_are_refused() -> None:
    author = Author()
    documents = device(author)
    documents.feed_head(author.head(5, [author.manifest()]))
    assert code_of(documents.feed_head, author.head(4)) == "head-rollback"
    assert code_of(documents.feed_head, author.head(5)) == "head-equivocation"
    assert documents.head is not None
    assert documents.head.version == 5


def test_a_stolen_head_key_alone_brings_in_nothing() -> None:
    author = Author()
    documents = device(author)
    stranger = ota_author.signer()
    evil = author.manifest(99, b"evil", by=[stranger])
    documents.feed_head(author.head(9, [evil]))
    assert code_of(documents.feed_manifest, evil) == "bad-signature"
    assert not documents.releases


def test_a_head_that_was_fast_forwarded_by_a_thief_ends_with_the_stolen_key() -> None:
    """TUF 5.3.11: else no version that follows would ever be high enough."""
    author = Author()
    documents = device(author)
    documents.feed_head(author.head(2**52))
    author.heads = [ota_author.signer()]
    assert documents.feed_trust(author.trust(2))
    assert documents.head is None
    assert documents.feed_head(author.head(2))


# --- trust -------------------------------------------------------------------


def test_a_device_that_slept_through_several_walks_them_all_in_any_order() -> None:
    author = Author()
    documents = device(author)
    chain = {}
    for version in (2, 3, 4):
        old = author.roots
        author.roots = [*old[1:], ota_author.signer()]
        author.authors = [ota_author.signer()]
        chain[version] = author.trust(version, by=[*old[1:], author.roots[2]])
    for version in (4, 3):
        assert not documents.feed_trust(chain[version])
    assert documents.feed_trust(chain[2])
    assert documents.trust.version == 4
    assert documents.feed_manifest(author.manifest()).sequence == 10


def test_a_forged_document_out_of_turn_does_not_hold_up_the_true_ones() -> None:
    author = Author()
    documents = device(author)
    forged = author.trust(3, by=[ota_author.signer()])
    assert not documents.feed_trust(forged)
    assert documents.feed_trust(author.trust(2))
    assert documents.trust.version == 2
    assert documents.feed_trust(author.trust(3))


def test_one_of_two_root_keys_changes_nothing() -> None:
    author = Author()
    documents = device(author)
    before = documents.trust
    data = author.trust(2, by=author.roots[:1])
    assert code_of(documents.feed_trust, data) == "trust-threshold"
    assert documents.trust == before


def test_two_documents_of_one_number_are_refused() -> None:
    author = Author()
    documents = device(author)
    assert not documents.feed_trust(author.trust(1, by=author.roots[1:]))  # the same content
    author.authors = [ota_author.signer()]
    assert code_of(documents.feed_trust, author.trust(1)) == "trust-version"


def test_rotation_withdraws_what_the_old_key_had_signed() -> None:
    author = Author()
    documents = device(author)
    manifest = author.manifest()
    documents.feed_manifest(manifest)
    author.authors = [ota_author.signer()]
    assert documents.feed_trust(author.trust(2))
    assert not documents.releases
    assert code_of(documents.feed_manifest, manifest) == "bad-signature"


def test_what_came_before_its_trust_document_is_looked_at_again() -> None:
    author = Author()
    documents = device(author)
    author.authors, author.heads = [ota_author.signer()], [ota_author.signer()]
    manifest = author.manifest()
    named = author.head(3, [manifest])
    assert code_of(documents.feed_manifest, manifest) == "bad-signature"
    assert code_of(documents.feed_head, named) == "head-signature"
    assert documents.feed_trust(author.trust(2))
    assert documents.head is not None
    assert [one.sequence for one in documents.releases.values()] == [10]


def test_a_flood_of_strangers_documents_is_bounded() -> None:
    author = Author()
    documents = device(author)
    for number in range(20):
        data = author.manifest(by=[ota_author.signer()], version=f"{number}.0")
        with pytest.raises(RejectedError):
            documents.feed_manifest(data)
        documents.feed_trust(author.trust(5 + number, by=[ota_author.signer()]))
    assert len(documents._aside) <= 4
    assert len(documents._later) <= 4


def test_a_gateway_keeps_releases_of_every_class_and_first_those_of_the_head() -> None:
    author = Author()
    documents = Documents(author.trust(), verify=light_signatures.verify, releases_max=3)
    kinds = {kind: author.manifest(kind=kind) for kind in ("hvac", "energy", "occupancy")}
    documents.feed_head(author.head(1, [*kinds.values()]))
    for data in kinds.values():
        documents.feed_manifest(data)
    documents.feed_manifest(author.manifest(11))
    assert {*documents.manifests.values()} == {*kinds.values()}


def test_pins_of_other_classes_do_not_matter() -> None:
    author = Author()
    documents = device(author)
    classes = {bytes(16): Pin(sequence=99, digest=bytes(32))}
    documents.feed_head(author.head(1, classes=classes))
    assert documents.feed_manifest(author.manifest()).sequence == 10


def test_trust_of_another_kind_of_document_is_malformed() -> None:
    author = Author()
    documents = device(author)
    for data in (b"", b"\xa0", author.head(), author.manifest()):
        assert code_of(documents.feed_trust, data) == "malformed"
