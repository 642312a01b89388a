"""Whether a building serves images follows from its trust document."""

from pathlib import Path

import pytest

from plantroom.gateway import image_setup
from plantroom.gateway.images import Images
from plantroom.gateway.settings import OtaSection
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError
from plantroom.wire.link import Message
from tests.fakes.ota_author import Author

heard: list[str] = []


async def publish(_message: Message) -> int:
    return 0


def made(folder: Path, trust_file: str = "") -> Images | None:
    return image_setup.of(
        OtaSection(trust_file=trust_file),
        folder,
        site="b",
        publish=publish,
        connected=lambda: True,
        clock=SystemClock(),
        watch=lambda topic_filter, _: heard.append(topic_filter),
    )


def test_without_a_trust_document_there_are_no_images(tmp_path: Path) -> None:
    assert made(tmp_path) is None


def test_a_trust_document_in_the_state_folder_or_elsewhere_turns_them_on(tmp_path: Path) -> None:
    (tmp_path / "trust.cbor").write_bytes(Author().trust())
    heard.clear()
    assert made(tmp_path) is not None
    assert "v1/b/ota/head" in heard
    assert made(tmp_path / "other", str(tmp_path / "trust.cbor")) is not None


def test_what_is_wrong_with_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file.*trust_file"):
        made(tmp_path, str(tmp_path / "none"))
    (tmp_path / "trust.cbor").write_bytes(b"junk")
    with pytest.raises(ConfigError, match="not a trust document"):
        made(tmp_path)
