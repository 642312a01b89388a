import zipfile
from pathlib import Path

import pytest

from plantroom.device.updater_selftest import SelfTest
from tests.fakes.waiting import until


def application(path: Path, code: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", code)
    return path


def wait(test: SelfTest) -> bool | None:
    until(lambda: test.poll() is not None, deadline_s=60)
    return test.verdict


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("import sys; sys.exit(sys.argv[1:] != ['--self-test'])", True),
        ("raise SystemExit(3)", False),
        ("import no_such_module", False),
    ],
)
def test_an_application_says_itself_how_it_is(tmp_path: Path, code: str, verdict: bool) -> None:  # noqa: FBT001
    test = SelfTest(application(tmp_path / "image", code))
    assert wait(test) is verdict
    assert test.text.startswith("exit code")
    test.stop()


def test_an_image_without_a_voice_is_well(tmp_path: Path) -> None:
    for data in (b"", b"payload", b"PK\x05\x06" + bytes(18)):
        (tmp_path / "image").write_bytes(data)
        assert SelfTest(tmp_path / "image").poll() is True


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    test = SelfTest(application(tmp_path / "image", "import time; time.sleep(600)"))
    assert test.poll() is None
    test.stop()
    test.stop()
    assert test.poll() is None
