import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import signatures, signing_keys
from plantroom.lab import ota_files
from plantroom.lab.ota_files import Roles, Wanted
from plantroom.wire import firmware, suit, trust
from plantroom.wire.errors import CheckFailedError, ConfigError, RejectedError, UsageError

IMAGE = b"firmware" * 9000


@pytest.fixture
def key(tmp_path: Path) -> Callable[[str], str]:
    def made(name: str) -> str:
        path = tmp_path / f"{name}.pem"
        if not path.exists():
            signing_keys.create(str(path))
        return str(path)

    return made


def roles_of(key: Callable[[str], str], **changes: Any) -> Roles:
    made: dict[str, Any] = {
        "root": [key(f"root-{number}") for number in (1, 2, 3)],
        "author": [key("author")],
        "head": [key("head")],
    }
    return Roles(**(made | changes))


@pytest.fixture
def anchor(key: Callable[[str], str]) -> bytes:
    return ota_files.make_trust(roles_of(key), version=1, expires_s=int(time.time()) + 1000)


def manifest(key: Callable[[str], str], *names: str, **changes: Any) -> bytes:
    wanted = Wanted(**({"version": "1.4.0", "kind": "hvac"} | changes))
    return ota_files.sign_image(IMAGE, wanted, [key(name) for name in names or ("author",)])


def test_a_signed_image_verifies_and_is_told(key: Callable[[str], str], anchor: bytes) -> None:
    data = manifest(key, notes="quieter", sequence=7)
    assert ota_files.verify(data, anchor, IMAGE) == {"kind": "manifest", "ok": True, "trust": 1}
    told = ota_files.inspect(data)
    assert (told["kind"], told["version"], told["sequence"]) == ("manifest", "1.4.0", 7)
    assert (told["notes"], told["image_bytes"], told["chunks"]) == ("quieter", len(IMAGE), 5)
    assert told["signatures"][0]["algorithm"] == "Ed25519"


def test_the_sequence_rises_by_itself(key: Callable[[str], str]) -> None:
    told = ota_files.inspect(manifest(key))
    assert abs(told["sequence"] - time.time()) < 60


def test_another_image_and_another_author_do_not_verify(
    key: Callable[[str], str], anchor: bytes
) -> None:
    with pytest.raises(CheckFailedError, match="wrong-image"):
        ota_files.verify(manifest(key), anchor, IMAGE + b"x")
    with pytest.raises(CheckFailedError, match="bad-signature"):
        ota_files.verify(manifest(key, "stranger"), anchor)
    with pytest.raises(ConfigError, match="trust"):
        ota_files.verify(manifest(key), b"rubbish")


def test_a_second_author_adds_a_signature(key: Callable[[str], str]) -> None:
    roles = roles_of(key, author=[key("author"), key("second")], author_threshold=2)
    anchor = ota_files.make_trust(roles, version=1, expires_s=int(time.time()) + 1000)
    once = manifest(key)
    with pytest.raises(CheckFailedError, match="1 of 2"):
        ota_files.verify(once, anchor)
    twice = ota_files.add_signature(once, key("second"))
    assert ota_files.verify(twice, anchor)["ok"]
    assert suit.read(once).digest == suit.read(twice).digest


def test_trust_is_handed_from_root_to_root(key: Callable[[str], str], anchor: bytes) -> None:
    roles = roles_of(key, root=[key("root-2"), key("root-3"), f"{key('root-4')}.pub"])
    expires_s = int(time.time()) + 1000
    second = ota_files.make_trust(roles, version=2, expires_s=expires_s)
    assert ota_files.verify(second, anchor) == {"kind": "trust", "ok": True, "trust": 1}
    first = trust.first(anchor, signatures.verify)
    assert trust.following(first, second, signatures.verify).version == 2
    alone = ota_files.make_trust(
        roles_of(key, root=[key("root-3"), f"{key('root-1')}.pub", f"{key('root-2')}.pub"]),
        version=2,
        expires_s=expires_s,
    )
    with pytest.raises(CheckFailedError, match="trust-threshold"):
        ota_files.verify(alone, anchor)
    signed = ota_files.add_signature(alone, key("root-1"))
    assert ota_files.verify(signed, anchor)["ok"]
    assert len(ota_files.inspect(signed)["signatures"]) == 2


def test_a_trust_document_that_nobody_can_meet_is_refused(key: Callable[[str], str]) -> None:
    with pytest.raises(UsageError, match="4 signatures of 3"):
        ota_files.make_trust(roles_of(key, root_threshold=4), version=1, expires_s=1)
    public = [f"{key(f'root-{number}')}.pub" for number in (1, 2, 3)]
    with pytest.raises(UsageError, match="sign"):
        ota_files.make_trust(roles_of(key, root=public), version=1, expires_s=1)


def test_a_head_is_made_verified_and_told(key: Callable[[str], str], anchor: bytes) -> None:
    data = manifest(key)

    def made(life_s: int) -> bytes:
        return ota_files.make_head(
            [data], version=3, rollout="assigned", revoked=[data], life_s=life_s, key=key("head")
        )

    assert ota_files.verify(made(60), anchor)["kind"] == "head"
    told = ota_files.inspect(made(60))
    release = firmware.read(suit.read(data))
    assert told["revoked"] == [release.digest.hex()]
    assert told["classes"][release.class_id.hex()]["rollout"] == "assigned"
    with pytest.raises(CheckFailedError, match="head-expired"):
        ota_files.verify(made(-1), anchor)


@pytest.mark.parametrize("changes", [{"version": "one"}, {"chunk_bytes": 5}, {"notes": "x" * 9999}])
def test_what_is_not_of_its_form_is_one_clear_line(
    key: Callable[[str], str], changes: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="ota sign"):
        manifest(key, **changes)


def test_files_that_are_no_documents_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for name in ("empty", "absent"):
        with pytest.raises(UsageError, match=name):
            ota_files.read(tmp_path / name)
    for data in (b"", b"rubbish", b"\xd8", b"\xd2", b"\xd8\x62", b"\xd8\x6b\xa0"):
        with pytest.raises(RejectedError):
            ota_files.inspect(data)


def test_a_written_document_is_public(tmp_path: Path) -> None:
    ota_files.write(tmp_path / "head", b"data")
    assert ota_files.read(tmp_path / "head") == b"data"
    assert (tmp_path / "head").stat().st_mode & 0o777 == 0o644
