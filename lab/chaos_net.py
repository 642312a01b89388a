"""Ways that are networks: where root is available, a way's far end is another network namespace.

A TAP device on each side, joined frame by frame in this process: what is cut, delayed, lost or
throttled are frames, so the kernels' TCP retransmits, backs off and gives up as on a real line,
which no proxy of connections can show. Behind the far end connections go on to this machine.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import random
import secrets
import socket
import struct
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from plantroom.lab.chaos_way import BadWay

_TUN: Final = Path("/dev/net/tun")
_TUNSETIFF: Final = 0x400454CA
_TAP, _NO_PI = 0x0002, 0x1000
_CLONE_NEWNET: Final = 0x40000000
_FRAME_BYTES_MAX: Final = 65_536
_FRAMES_AT_ONCE: Final = 64
_WAITING_MAX: Final = 1_000
_COMMAND_S: Final = 10.0
_SUBNETS: Final = 2**15 // 4  # of 198.18.0.0/17, for testing networks (RFC 2544)

T = TypeVar("T")


class NetWay(BadWay):
    """A way whose faults happen to frames."""

    def __init__(self, name: str, port: int, chance: random.Random) -> None:
        super().__init__(name, port, chance)
        mark = secrets.token_hex(3)
        self._space = f"plantroom-{mark}"
        self._near_name, self._far_name = f"pr{mark}n", f"pr{mark}f"
        subnet = 4 * secrets.randbelow(_SUBNETS)
        self._near_ip, self._far_ip = (
            f"198.18.{(subnet + host) >> 8}.{(subnet + host) & 255}" for host in (1, 2)
        )
        self._taps: tuple[int, int] = (-1, -1)
        self._free_s = {"up": 0.0, "down": 0.0}
        self._waiting = 0
        self._silent = False

    @property
    def address(self) -> str:
        """Where to connect."""
        return f"{self._far_ip}:{self._own_port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["BadWay"]:
        """Make the network, and listen at its far end, while the block runs.

        Raises:
            OSError: when this machine does not let us.
        """
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as opened:
            listening = await asyncio.to_thread(self._build, opened)
            self._own_port = listening.getsockname()[1]
            server = await asyncio.start_server(self._accepted, sock=listening)
            near, far = self._taps
            loop.add_reader(near, self._frames, near, far, "up")
            loop.add_reader(far, self._frames, far, near, "down")
            try:
                yield self
            finally:
                loop.remove_reader(near)
                loop.remove_reader(far)
                server.close()
                for link in list(self._links):
                    link.cancel()
                await asyncio.gather(*self._links, return_exceptions=True)

    def _build(self, opened: contextlib.ExitStack) -> socket.socket:
        """Make namespace, devices and the listening socket; `opened` takes them down again."""
        _ip("netns", "add", self._space)
        opened.callback(_ip, "netns", "del", self._space)
        near = _tap(self._near_name)
        opened.callback(os.close, near)
        far = _inside(self._space, lambda: _tap(self._far_name))
        opened.callback(os.close, far)
        self._taps = near, far
        _ip("addr", "add", f"{self._near_ip}/30", "dev", self._near_name)
        _ip("link", "set", self._near_name, "up")
        _ip("-n", self._space, "addr", "add", f"{self._far_ip}/30", "dev", self._far_name)
        _ip("-n", self._space, "link", "set", self._far_name, "up")
        return _inside(self._space, lambda: socket.create_server((self._far_ip, 0)))

    # -- faults

    def cut(self) -> None:
        """Pull the cable: nothing passes, and nobody is told."""
        self._is_open = False

    def swallow(self) -> None:
        """Let the far side hear, and not be heard: half open."""
        self._silent = True

    def mend(self) -> None:
        """Let everything pass, at any speed; the weather stays."""
        self._is_open = True
        self._silent = False
        self.bytes_per_s = 0

    # -- frames

    def _frames(self, source: int, target: int, towards: str) -> None:
        for _ in range(_FRAMES_AT_ONCE):
            try:
                frame = os.read(source, _FRAME_BYTES_MAX)
            except OSError:  # none is left
                return
            if self._passes_now(towards):
                self._send(frame, target, towards)

    def _passes_now(self, towards: str) -> bool:
        if not self._is_open or (self._silent and towards == "down"):
            return False
        lost = self.weather.loss and self._chance.random() < self.weather.loss
        return not lost and self._waiting < _WAITING_MAX

    def _send(self, frame: bytes, target: int, towards: str) -> None:
        loop, weather = asyncio.get_running_loop(), self.weather
        self.carried_bytes[towards] += len(frame)
        at_s = loop.time()
        if self.bytes_per_s:
            at_s = max(at_s, self._free_s[towards]) + len(frame) / self.bytes_per_s
            self._free_s[towards] = at_s
        jitter_s = self._chance.uniform(-weather.jitter_s, weather.jitter_s)
        at_s += max(0.0, weather.delay_s + jitter_s)
        if at_s <= loop.time():
            _write(target, frame)
        else:
            self._waiting += 1
            loop.call_at(at_s, self._land, target, frame)

    def _land(self, target: int, frame: bytes) -> None:
        self._waiting -= 1
        _write(target, frame)


def may() -> bool:
    """Say whether this process may make networks here."""
    return os.geteuid() == 0 and _TUN.exists()


def _write(target: int, frame: bytes) -> None:
    with contextlib.suppress(OSError):  # a device whose queue is full, or that is gone, loses it
        os.write(target, frame)


def _ip(*words: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 -- fixed words and names of our own
            ["ip", *words],  # noqa: S607 -- wherever the system has it
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"ip {' '.join(words)} does not end") from error
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()[-200:]}")


def _tap(name: str) -> int:
    device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _NO_PI))
    except OSError:
        os.close(device)
        raise
    return device


def _inside(space: str, make: Callable[[], T]) -> T:
    """Call something in a network namespace: on a thread of its own, which stays there."""
    made: list[T] = []
    failed: list[OSError] = []

    def enter() -> None:
        try:
            with Path(f"/run/netns/{space}").open("rb") as there:
                if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"namespace {space} cannot be entered")
            made.append(make())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter, name="lab.chaos-net")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
