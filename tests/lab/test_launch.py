import os
import subprocess
import sys

import pytest

from plantroom.lab import launch


def launched(parent: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", launch.__file__, str(parent), *command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_it_becomes_the_command() -> None:
    done = launched(os.getpid(), sys.executable, "-c", "print('became')")
    assert (done.returncode, done.stdout) == (0, "became\n")


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_it_does_not_start_for_a_parent_that_is_gone() -> None:
    done = launched(2**22 + 1, sys.executable, "-c", "print('became')")
    assert (done.returncode, done.stdout) == (0, "")
