"""Whole storms over real processes: a bounded slice of `plantroom chaos`."""

import json
import subprocess
import sys

import pytest

from plantroom.lab.chaos_plan import PROFILES

DURATION_S = 40


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_nothing_is_lost_in_any_weather(profile: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "plantroom.cli.main", "chaos", "--json"),
            *("--seed", "7", "--profile", profile, "--duration", str(DURATION_S)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, f"{said}\n{done.stderr}"
    assert said["readings"] == said["stored"] > 0
    assert not any(said[word] for word in ("lost", "duplicated", "misordered", "altered"))
    sys.stdout.write(f"\n{profile}: {said}\n")
