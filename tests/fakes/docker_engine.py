"""A Docker engine of the test's own: started by hand, in a folder that is thrown away.

Where no registry of images can be reached, the base image is made on the machine from the
distribution's packages (mmdebstrap), under the name that the Dockerfile asks for.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.fakes.waiting import until

BASE_IMAGE = "python:3.13-slim"
NEEDED = ("dockerd", "docker", "mmdebstrap", "iptables")
START_S = 60.0
STEP_S = 600.0
_PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
# pip in a Debian image refuses to install beside apt; an image of python.org's has it at /usr/local
_AS_PYTHON_IMAGE = """
rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED
for name in python python3 pip; do
    target=$name; [ $name = python ] && target=python3
    ln -sf /usr/bin/$target "$1"/usr/local/bin/$name
done
"""


def why_not() -> str | None:
    """Return why no engine can be started here, or None."""
    if os.geteuid() != 0:
        return "starting a Docker engine needs root"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@dataclass(slots=True)
class DockerEngine:
    """A running engine; `run` runs a command against it."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    log: IO[bytes]

    @classmethod
    def start(cls, folder: Path) -> "DockerEngine":
        """Start dockerd and wait until it answers."""
        log = (folder / "dockerd.log").open("wb")
        options = {
            "--data-root": folder / "data",
            "--exec-root": folder / "exec",
            "--pidfile": folder / "pid",
            "-H": f"unix://{folder / 'docker.sock'}",
        }
        words = [str(word) for pair in options.items() for word in pair]
        process = subprocess.Popen(["dockerd", *words], stdout=log, stderr=subprocess.STDOUT)
        engine = cls(folder, process, log)
        try:
            until(engine.answers, deadline_s=START_S, what="dockerd answers")
        except BaseException:
            engine.stop()
            raise
        return engine

    @property
    def environ(self) -> dict[str, str]:
        """The environment that makes a client talk to this engine, with the classic builder."""
        own = {"DOCKER_HOST": f"unix://{self.folder / 'docker.sock'}", "DOCKER_BUILDKIT": "0"}
        return {**os.environ, **own, "DOCKER_CONFIG": str(self.folder / "config")}

    def answers(self) -> bool:
        """Say whether the engine is there; one that has ended never will be."""
        if self.process.poll() is not None:
            raise RuntimeError(
                f"dockerd ended:\n{(self.folder / 'dockerd.log').read_text()[-2000:]}"
            )
        done = subprocess.run(
            ["docker", "info"], env=self.environ, capture_output=True, check=False, timeout=STEP_S
        )
        return done.returncode == 0

    def run(self, *words: str, cwd: Path | None = None) -> str:
        """Run a command and return what it printed; its failure shows both streams."""
        done = subprocess.run(
            words,
            env=self.environ,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=STEP_S,
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout

    def make_base_image(self) -> None:
        """Make the Dockerfile's base image from this machine's distribution."""
        pip_conf = self.folder / "pip.conf"
        pip_conf.write_text(_pip_configuration(), encoding="utf-8")
        certificates = "/etc/ssl/certs/ca-certificates.crt"
        tar = self.folder / "base.tar"
        suite = _os_release()["VERSION_CODENAME"]
        self.run(
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}"),
            f"--customize-hook={_AS_PYTHON_IMAGE}",
            f"--customize-hook=upload {certificates} {certificates}",
            f"--customize-hook=upload {pip_conf} /etc/pip.conf",
            *(suite, str(tar), *_package_sources()),
        )
        self.run("docker", "import", "--change", 'CMD ["python3"]', str(tar), BASE_IMAGE)
        tar.unlink()

    def stop(self) -> None:
        """Stop the engine; it takes its containers with it."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        self.log.close()


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _package_sources() -> list[str]:
    """Return the machine's own package sources, in the form that mmdebstrap takes."""
    modern = Path("/etc/apt/sources.list.d/debian.sources")
    return [str(path) for path in (modern, Path("/etc/apt/sources.list")) if path.exists()]


def _pip_configuration() -> str:
    """Write down how pip reaches its index on this machine, environment included."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=True,
        timeout=STEP_S,
    )
    lines = ["[global]"]
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in {"index-url", "extra-index-url", "trusted-host", "proxy", "timeout"}:
            lines.append(f"{name} = {value.strip(chr(39))}")
    lines.append("cert = /etc/ssl/certs/ca-certificates.crt")
    return "\n".join(lines) + "\n"
