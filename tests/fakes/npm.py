"""A package of npm, installed into a folder of the user's cache; where it cannot be: a skip."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

INSTALL_S = 100


@cache
def installed(package: str, version: str) -> Path:
    """Return the folder whose node_modules has it; skip, saying why, where it cannot be."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip(f"{package} needs node and npm, which are not installed here")
    cached = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"{package.replace('/', '-').lstrip('@')}-{version}"
    found = Path(cached) / "plantroom-tests" / name
    if (found / "node_modules" / package).is_dir():
        return found
    staging = found.with_name(f"{name}.{os.getpid()}")
    staging.mkdir(parents=True)
    (staging / "package.json").write_text("{}")
    command = [
        npm,
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        f"{package}@{version}",
    ]
    try:
        done = subprocess.run(
            command, cwd=staging, capture_output=True, text=True, check=False, timeout=INSTALL_S
        )
        if done.returncode:
            pytest.skip(f"npm cannot install {package}: {done.stderr.strip()[-300:]}")
        if not found.exists():
            staging.rename(found)
    except (OSError, subprocess.TimeoutExpired) as error:
        if not found.exists():
            pytest.skip(f"npm cannot install {package}: {error}")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return found
