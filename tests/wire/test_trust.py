from collections.abc import Callable
from typing import Any

import pytest

from plantroom.certs import signatures
from plantroom.wire import cbor, cose, trust
from plantroom.wire.errors import RejectedError
from plantroom.wire.trust import Trust
from tests.fakes import ota_author
from tests.fakes.ota_author import Author


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(RejectedError) as caught:
        act()
    return caught.value.code


def refusal(current: Trust, data: bytes) -> str:
    return code_of(lambda: follow(current, data))


def first(author: Author) -> Trust:
    return trust.first(author.trust(), signatures.verify)


def follow(current: Trust, data: bytes) -> Trust:
    return trust.following(current, data, signatures.verify)


def test_the_first_document_signs_itself() -> None:
    author = Author()
    made = first(author)
    assert made.version == 1
    assert made.role("root").threshold == 2
    assert set(made.author.keys) == {author.authors[0].key.kid}
    assert made.head.keys[author.heads[0].key.kid] == author.heads[0].key
    one = author.trust(by=author.roots[:1])
    assert code_of(lambda: trust.first(one, signatures.verify)) == "trust-threshold"


def test_author_and_head_keys_are_rotated_by_two_of_three_roots() -> None:
    author = Author()
    one = first(author)
    author.authors, author.heads = [ota_author.signer()], [ota_author.p256_signer()]
    two = follow(one, author.trust(2, by=[author.roots[0], author.roots[2]]))
    assert set(two.author.keys) == {author.authors[0].key.kid}
    assert set(two.head.keys) == {author.heads[0].key.kid}


def test_a_root_key_is_replaced_under_both_thresholds() -> None:
    author = Author()
    one = first(author)
    old = list(author.roots)
    author.roots = [*old[:2], ota_author.signer()]
    assert follow(one, author.trust(2, by=old[:2])).version == 2


def test_what_too_few_root_keys_signed_is_refused() -> None:
    author = Author()
    one = first(author)
    roots = author.roots
    for by in (roots[:1], [roots[0], roots[0]], [ota_author.signer(), roots[0]]):
        data = author.trust(2, by=by)
        assert refusal(one, data) == "trust-threshold"


def test_a_root_set_that_has_not_signed_itself_is_refused() -> None:
    author = Author()
    one = first(author)
    old = author.roots
    author.roots = [ota_author.signer() for _ in range(3)]
    assert code_of(lambda: follow(one, author.trust(2, by=old[:2]))) == "trust-threshold"
    assert code_of(lambda: follow(one, author.trust(2))) == "trust-threshold"
    both = author.trust(2, by=[*old[:2], *author.roots[:2]])
    assert follow(one, both).version == 2


def test_no_number_is_skipped_and_none_comes_back() -> None:
    author = Author()
    one = first(author)
    two = follow(one, author.trust(2))
    for current, version in ((one, 3), (two, 2), (two, 1)):
        data = author.trust(version)
        assert refusal(current, data) == "trust-version"


@pytest.mark.parametrize("threshold", [0, -1, 4])
def test_a_threshold_that_means_nothing_is_refused(threshold: int) -> None:
    author = Author()
    data = author.trust(2, root_threshold=threshold)
    assert code_of(lambda: follow(first(author), data)) == "bad-threshold"


def changed(change: dict[int, Any]) -> bytes:
    author = Author()
    payload = trust.read(author.trust())[1].payload
    table = cbor.loads(payload, bytes_max=9999, error=ValueError) | change
    return cose.sign(cbor.dumps({k: v for k, v in table.items() if v is not None}), author.roots)


@pytest.mark.parametrize(
    "change",
    [
        {1: "another"},
        {2: 0},
        {2: True},
        {4: "never"},
        {4: None},
        {10: {}},
        {10: {"root": [1, [bytes(8)]], "author": [1, []], "head": [1, []]}},
        {11: {}},
        {11: {b"another": [-19, bytes(32)]}},
        {11: {b"name": [-19, bytes(31)]}},
        {99: 1},
    ],
)
def test_anything_else_is_no_trust_document(change: dict[int, Any]) -> None:
    assert code_of(lambda: trust.read(changed(change))) in {"malformed", "bad-key"}


def test_a_role_names_no_key_twice() -> None:
    author = Author()
    author.authors *= 2
    assert code_of(lambda: trust.read(author.trust())) == "malformed"
