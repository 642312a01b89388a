from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from plantroom.wire import cbor, suit
from plantroom.wire.errors import RejectedError
from plantroom.wire.suit import Manifest
from plantroom.wire.suit_commands import Commands, Target
from tests.fakes import ota_examples

VENDOR = bytes.fromhex("fa6b4a53d5ad5fdfbe9de663e4d41ffe")
CLASS = bytes.fromhex("1492af1425695e48bf429b2d51f2ab45")
FIRST = bytes.fromhex("00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210")
SECOND = bytes.fromhex("0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff")
ALL_SEQUENCES = (suit.PAYLOAD_FETCH, suit.INSTALL, suit.VALIDATE, suit.LOAD, suit.INVOKE)


@dataclass
class Memory:
    """Components that hold digests; what is fetched from where is `served`."""

    served: dict[str, bytes] = field(default_factory=dict)
    held: dict[int, bytes] = field(default_factory=dict)
    invoked: list[int] = field(default_factory=list)
    unpacked: bytes | None = None

    def fetch(self, component: int, uri: str) -> None:
        self.held[component] = self.served[uri]

    def copy(self, component: int, source: int) -> None:
        self.held[component] = self.unpacked or self.held[source]

    def matches(self, component: int, digest: bytes, size: int | None) -> bool:
        assert size is None or size > 0
        return self.held.get(component) == digest

    def invoke(self, component: int) -> None:
        self.invoked.append(component)


def run(manifest: Manifest, memory: Memory, *names: int, target: Target | None = None) -> Commands:
    commands = Commands(manifest, target or Target(vendor_id=VENDOR, class_id=CLASS), memory)
    commands.run(*(names or ALL_SEQUENCES))
    return commands


URL = "http://example.com/file"
EXAMPLES: list[tuple[int, Memory, dict[int, bytes], list[int]]] = [
    (0, Memory(held={0: FIRST}), {0: FIRST}, [0]),
    (1, Memory(served={f"{URL}.bin": FIRST}), {0: FIRST}, []),
    (
        2,
        Memory(served={"http://example.com/very/long/path/to/file/file.bin": FIRST}),
        {0: FIRST},
        [0],
    ),
    (3, Memory(served={f"{URL}1.bin": FIRST, f"{URL}2.bin": SECOND}), {0: FIRST}, []),
    (5, Memory(served={f"{URL}1.bin": FIRST, f"{URL}2.bin": SECOND}), {0: FIRST, 1: SECOND}, [0]),
]


@pytest.mark.parametrize(("number", "memory", "held", "invoked"), EXAMPLES)
def test_examples_of_the_draft_run(
    number: int, memory: Memory, held: dict[int, bytes], invoked: list[int]
) -> None:
    run(suit.read(ota_examples.example(number)).manifest, memory)
    assert memory.held == held
    assert memory.invoked == invoked


def test_example_4_fetches_copies_loads_and_invokes() -> None:
    manifest = suit.read(ota_examples.example(4)).manifest
    memory = Memory(served={f"{URL}.bin": FIRST})
    run(manifest, memory, suit.PAYLOAD_FETCH, suit.INSTALL, suit.VALIDATE)
    memory.unpacked = SECOND  # its load step copies, and unpacks on the way
    run(manifest, memory, suit.LOAD, suit.INVOKE)
    assert memory.held == {0: FIRST, 1: FIRST, 2: SECOND}
    assert memory.invoked == [2]


def test_example_3_takes_the_image_of_the_slot_it_is_for() -> None:
    manifest = suit.read(ota_examples.example(3)).manifest
    served = {f"{URL}1.bin": FIRST, f"{URL}2.bin": SECOND}
    for slot, image in ((0, FIRST), (1, SECOND)):
        memory = Memory(served=served)
        run(manifest, memory, target=Target(vendor_id=VENDOR, class_id=CLASS, slot=slot))
        assert memory.held == {0: image}
    with pytest.raises(RejectedError) as caught:
        run(manifest, Memory(), target=Target(vendor_id=VENDOR, class_id=CLASS, slot=2))
    assert caught.value.code == "wrong-slot"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (Target(vendor_id=CLASS, class_id=CLASS), "wrong-vendor"),
        (Target(vendor_id=VENDOR, class_id=VENDOR), "wrong-class"),
    ],
)
def test_a_manifest_for_others_is_refused_before_anything_is_fetched(
    target: Target, code: str
) -> None:
    memory = Memory()
    with pytest.raises(RejectedError) as caught:
        run(suit.read(ota_examples.example(1)).manifest, memory, target=target)
    assert caught.value.code == code
    assert memory.held == {}


def test_an_image_that_does_not_match_is_refused() -> None:
    memory = Memory(held={0: SECOND})
    with pytest.raises(RejectedError) as caught:
        run(suit.read(ota_examples.example(0)).manifest, memory)
    assert caught.value.code == "wrong-image"
    assert memory.invoked == []


def manifest_of(commands: Sequence[Any], components: int = 1) -> Manifest:
    return Manifest(
        sequence=1,
        components=((b"x",),) * components,
        sequences={suit.INSTALL: cbor.dumps(list(commands))},
    )


def nested(depth: int) -> list[Any]:
    commands: list[Any] = [20, {21: "mqtt:x"}]
    for _ in range(depth):
        commands = [32, cbor.dumps(commands)]
    return commands


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        ([99, 15], "unsupported-command"),
        ([18, 15], "unsupported-command"),
        ([20, {99: 1}], "unsupported-parameter"),
        ([14, 15], "aborted"),
        ([20, {1: "text"}], "malformed"),
        ([20, {14: True}], "malformed"),
        ([20], "malformed"),
        ([], "malformed"),
        (["20", {}], "malformed"),
        ([20, []], "malformed"),
        ([12, 1], "malformed"),
        ([12, []], "malformed"),
        ([12, "x"], "malformed"),
        ([12, False], "malformed"),
        ([21, 2], "malformed"),
        ([20, {22: 7}, 22, 2], "malformed"),
        ([15, []], "malformed"),
        ([15, 5], "malformed"),
        ([15, [cbor.dumps([14, 15])]], "aborted"),
        ([15, [cbor.dumps([99, 15]), None]], "unsupported-command"),
        ([32, 5], "malformed"),
        (nested(5), "malformed"),
        ([12, 0] * 300, "malformed"),
    ],
)
def test_what_is_not_understood_refuses_the_manifest(commands: list[Any], code: str) -> None:
    with pytest.raises(RejectedError) as caught:
        run(manifest_of(commands), Memory())
    assert caught.value.code == code


def test_try_each_takes_back_what_a_failed_attempt_has_set() -> None:
    fails = cbor.dumps([20, {21: "lost"}, 14, 15])
    memory = Memory(served={"kept": FIRST})
    run(manifest_of([20, {21: "kept"}, 15, [fails, None], 21, 2]), memory)
    assert memory.held == {0: FIRST}


def test_one_command_may_be_for_all_components() -> None:
    memory = Memory(served={"u": FIRST})
    run(manifest_of([12, True, 20, {21: "u"}, 21, 2], components=3), memory)
    assert memory.held == {0: FIRST, 1: FIRST, 2: FIRST}
    memory = Memory(served={"u": FIRST})
    run(manifest_of([12, [0, 2], 20, {21: "u"}, 21, 2], components=3), memory)
    assert memory.held == {0: FIRST, 2: FIRST}


def test_without_a_target_it_says_for_whom_it_is() -> None:
    commands = Commands(suit.read(ota_examples.example(0)).manifest, None, Memory(held={0: FIRST}))
    commands.run(suit.VALIDATE)
    assert commands.claims == {1: VENDOR, 2: CLASS}
