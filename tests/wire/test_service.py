"""Processes end when told to: in order, quietly on a signal, loudly on anything else."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from plantroom.wire import service

SERVE = """
import asyncio, sys
from plantroom.wire import service

async def main():
    try:
        print("ready", flush=True)
        await asyncio.Event().wait()
    finally:
        print("closed", flush=True)

service.run(main)
print("after", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_what_is_open_and_ends_with_0(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, "closed\nafter\n", "")


def test_an_error_of_the_service_is_raised() -> None:
    async def main() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(service.until_stopped(main))


def test_a_cancellation_without_a_signal_is_not_swallowed() -> None:
    async def cancelled_by_another_task() -> None:
        started = asyncio.Event()

        async def main() -> None:
            started.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(service.until_stopped(main), name="test.service")
        await started.wait()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled_by_another_task())


def test_a_service_that_ends_by_itself_ends() -> None:
    done = []

    async def main() -> None:
        done.append(os.getpid())

    service.run(main)
    assert done == [os.getpid()]


def test_it_also_runs_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    kinds = []

    async def main() -> None:
        kinds.append(type(asyncio.get_running_loop()).__module__)

    service.run(main)
    assert kinds[0].startswith("asyncio.")


def test_a_process_may_open_as_many_files_as_the_system_allows() -> None:
    code = (
        "import resource; from plantroom.wire import service\n"
        "async def main(): print(*resource.getrlimit(resource.RLIMIT_NOFILE))\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))\n"
        "service.run(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    soft, hard = done.stdout.split()
    assert soft == hard
