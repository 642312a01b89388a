"""Documents with anything done to their bytes: no crash, no forgery, only named refusals.

Quick: a few thousand from a fixed seed. Slow: PLANTROOM_OTA_FUZZ_CASES (1,000,000) of each run.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

import cbor2
import pytest

from plantroom.certs import light_signatures
from plantroom.wire import cbor, head, ota_states, suit, trust
from plantroom.wire.errors import RejectedError
from plantroom.wire.ota_documents import Documents
from tests.fakes import ota_author
from tests.fakes.ota_author import Author

CASES: Final = 1_000_000
Feed = Callable[[bytes], object]


class Target:
    """What is attacked: a genuine document, how it is fed, and what it may be taken for."""

    def __init__(self, name: str, data: bytes, payload: Callable[[bytes], bytes]) -> None:
        self.name = name
        self.data = data
        self.payload = payload
        self.genuine = payload(data)


def targets(author: Author) -> list[Target]:
    manifest = author.manifest(image=b"small", notes="notes", device=ota_author.DEVICE)
    return [
        Target("manifest", manifest, lambda data: suit.read(data).digest),
        Target("head", author.head(1, [manifest]), lambda data: head.read(data)[1].payload),
        Target("trust", author.trust(2), lambda data: trust.read(data)[1].payload),
    ]


def feed(documents: Documents, name: str) -> Feed:
    return {
        "manifest": documents.feed_manifest,
        "head": documents.feed_head,
        "trust": documents.feed_trust,
    }[name]


def mutated(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Flip, drop, insert, move, repeat or splice bytes, one to eight times."""
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        at = random.randrange(len(made)) if made else 0
        what = random.randrange(7)
        if what == 0 and made:
            made[at] ^= 1 << random.randrange(8)
        elif what == 1 and made:
            made[at] = random.randrange(256)
        elif what == 2 and made:
            del made[at : at + random.choice((1, 1, 2, 8, 64))]
        elif what == 3:
            made[at:at] = random.randbytes(random.choice((1, 1, 2, 8)))
        elif what == 4:
            length = random.randrange(1, 40)
            made[at:at] = made[at : at + length]
        elif what == 5:
            other = random.choice(others)
            start = random.randrange(len(other))
            made[at : at + 8] = other[start : start + random.randrange(1, 64)]
        else:
            made = bytearray(rebuilt(bytes(made), random))
    return bytes(made)


def rebuilt(data: bytes, random: Random) -> bytes:
    """Change a value inside the document and encode it well: past what a flipped bit reaches."""
    try:
        value = cbor2.loads(data)
        changed = changed_in(value, random)
        return cbor.dumps(changed)
    except Exception:  # noqa: BLE001 -- what was broken before stays as it is
        return data


def changed_in(value: object, random: Random) -> object:
    if isinstance(value, cbor2.CBORTag):
        return cbor2.CBORTag(value.tag, changed_in(value.value, random))
    if isinstance(value, list | tuple) and value:
        items = list(value)
        at = random.randrange(len(items))
        items[at] = changed_in(items[at], random)
        return items
    if isinstance(value, Mapping) and value:
        table = dict(value.items())
        key = random.choice(list(table))
        table[key] = changed_in(table[key], random)
        return table
    if isinstance(value, bytes) and value and random.random() < 0.7:
        inner = rebuilt(value, random)
        return inner if inner != value else value[:-1] + bytes([value[-1] ^ 1])
    if isinstance(value, int):
        return value + random.choice((-1, 1, 2**32, -(2**53)))
    return random.choice((None, True, 0, -1, b"", "x", [], {}, 2**64))


def attack(cases: int, seed: int) -> Counter[str]:
    random = Random(seed)  # noqa: S311 -- a reproducible attack
    author = Author()
    anchor = author.trust()
    attacked = targets(author)
    others = [one.data for one in attacked]
    seen: Counter[str] = Counter()
    documents = Documents(anchor, verify=light_signatures.verify)
    for number in range(cases):
        target = attacked[number % len(attacked)]
        data = mutated(target.data, random, others)
        try:
            feed(documents, target.name)(data)
        except RejectedError as error:
            if error.code not in ota_states.CODES:
                raise AssertionError(error.code) from error
            seen[f"{target.name} {error.code}"] += 1
            continue
        if target.name == "trust" and documents.trust.version == 1:
            seen["trust out of turn"] += 1  # kept for later, and checked then
            continue
        seen[f"{target.name} accepted"] += 1
        assert target.payload(data) == target.genuine, f"FORGED: {target.name} {data.hex()}"
        documents = Documents(anchor, verify=light_signatures.verify)
    return seen


def attack_from_within(cases: int, seed: int) -> Counter[str]:
    """Sign anything: an author's broken tool, or his stolen key, must crash nobody either."""
    random = Random(seed)  # noqa: S311 -- a reproducible attack
    author = Author()
    documents = Documents(
        author.trust(), verify=lambda *_: True, target=author.target, releases_max=2
    )
    genuine = cbor2.loads(author.manifest(image=b"small", notes="notes")).value
    seen: Counter[str] = Counter()
    for _ in range(cases):
        manifest = mutated(genuine[suit.MANIFEST], random, [genuine["#chunks"], b"\0"])
        table = mutated(genuine["#chunks"], random, [b"\0"]) if random.random() < 0.1 else None
        members: dict[int | str, bytes] = {"#chunks": table or genuine["#chunks"]}
        try:
            documents.feed_manifest(suit.build(manifest, author.authors, members=members))
        except RejectedError as error:
            if error.code not in ota_states.CODES:
                raise AssertionError(error.code) from error
            seen[error.code] += 1
        else:
            seen["accepted"] += 1
    return seen


def test_what_an_author_signs_may_be_anything_and_crashes_nobody() -> None:
    seen = attack_from_within(2_000, seed=4)
    assert {"malformed", "digest-mismatch", "unsupported-command"} <= set(seen), seen


def test_a_few_thousand_documents_with_anything_done_to_them_forge_nothing() -> None:
    seen = attack(3_000, seed=1)
    for reached in ("manifest malformed", "head head-signature", "trust trust-threshold"):
        assert seen[reached], seen
    assert seen["manifest bad-signature"] + seen["manifest digest-mismatch"], seen


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_documents_with_anything_done_to_them_forge_nothing() -> None:
    cases = int(os.environ.get("PLANTROOM_OTA_FUZZ_CASES", CASES))
    seed = int(os.environ.get("PLANTROOM_SEED", "2026"))
    seen = attack(cases, seed)
    assert sum(seen.values()) == cases
    seen += attack_from_within(cases // 5, seed)
    sys.stdout.write(f"\n{cases} documents: {dict(seen.most_common())}\n")
