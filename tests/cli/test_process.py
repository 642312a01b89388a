import subprocess
import sys

import pytest


@pytest.mark.parametrize("kind", ["device", "gateway", "cloud", "broker"])
def test_the_process_replaces_the_command_and_complains_as_it_does(kind: str) -> None:
    command = (sys.executable, "-m", "plantroom.cli.main", kind, "run", "/nowhere/x.toml")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("plantroom: cannot read the configuration")
    assert "/nowhere/x.toml" in done.stderr
    assert done.stderr.count("\n") == 1
