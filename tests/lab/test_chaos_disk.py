import os
import subprocess
import sys
from pathlib import Path

import pytest

from plantroom.lab import chaos_disk
from plantroom.lab.chaos_disk import SizeLimit, SmallDisk

GROW = """
import sys
with open(sys.argv[1], "ab", buffering=0) as file:
    for line in sys.stdin:
        try:
            file.write(b"x" * 4096)
        except OSError as error:
            print(error.strerror, flush=True)
        else:
            print("written", flush=True)
"""


def test_size_limit_lets_no_file_of_a_running_process_grow_until_it_is_lifted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "queue.db"
    with subprocess.Popen(
        [sys.executable, "-c", GROW, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def grow() -> str:
            stdin.write("\n")
            stdin.flush()
            return stdout.readline().strip()

        assert grow() == "written"
        disk = SizeLimit(tmp_path)
        disk.fill([process.pid])
        assert grow() == "File too large"
        disk.free([process.pid])
        assert grow() == "written"
        stdin.close()


def test_small_disk_is_full_and_then_not(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    with chaos_disk.prepared(tmp_path, own=True) as disk:
        if not isinstance(disk, SmallDisk):
            pytest.skip("mounting is not allowed here")
        (tmp_path / "file").write_bytes(b"x")
        disk.fill([])
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "more").write_bytes(b"x" * 8192)
        disk.free([])
        (tmp_path / "more").write_bytes(b"x" * 8192)
    assert not os.path.ismount(tmp_path)


def test_folder_that_is_kept_gets_no_disk_of_its_own(tmp_path: Path) -> None:
    with chaos_disk.prepared(tmp_path, own=False) as disk:
        assert disk.kind == "rlimit"
        assert not os.path.ismount(tmp_path)
