"""Free ports for processes that are told where to listen.

A port that was had by binding 0 and given back may be some connection's own end by the time that
the process listens there: so these lie below the ports that the kernel gives out, each worker of a
parallel run has a range of its own, and none comes twice until the range is used up.
"""

import itertools
import os
import random
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"
FIRST, LAST = 20_000, 32_000  # Linux gives out 32768 and more


def _own() -> range:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = (LAST - FIRST) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(FIRST + worker * size, FIRST + (worker + 1) * size)


def _numbers(own: range) -> Iterator[int]:
    start = random.SystemRandom().randrange(len(own))  # other runs on this machine begin elsewhere
    return itertools.cycle([*own[start:], *own[:start]])


_OWN = _own()
_NUMBERS = _numbers(_OWN)


def free_port() -> int:
    """Return a port at which nobody listens."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """Return the first of so many in a row at which nobody listens."""
    run: list[int] = []
    for number in itertools.islice(_NUMBERS, len(_OWN)):
        if not _is_free(number):
            run.clear()
            continue
        run = [*run, number] if run and run[-1] == number - 1 else [number]
        if len(run) == count:
            return run[0]
    raise AssertionError(f"no {count} free ports in a row")


def _is_free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as listeners do
        try:
            probe.bind((HOST, number))
        except OSError:
            return False
        return True
