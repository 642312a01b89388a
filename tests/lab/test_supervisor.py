import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from plantroom.lab.child import Program
from plantroom.lab.supervisor import Interrupted, Supervisor, first_complaint, interruptible
from plantroom.wire.errors import ConfigError
from tests.fakes.waiting import until


class Script(Program):
    """A program that is a Python script."""

    @property
    def command(self) -> tuple[str, ...]:
        return (sys.executable, "-u", str(self.config))


ENDS = """
import signal, sys, time
def end(*_):
    with open({record!r}, "a") as file:
        file.write({name!r} + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up")
time.sleep(600)
"""


def script(folder: Path, name: str, text: str = ENDS) -> Script:
    path = folder / f"{name}.py"
    path.write_text(text.format(record=str(folder / "record"), name=name))
    return Script(name=name, kind="", config=path, log=folder / f"{name}.log")


async def up(*programs: Script) -> None:
    """Wait until every one has said something."""

    def all_up() -> bool:
        return all(one.log.exists() and one.log.read_bytes() for one in programs)

    await asyncio.to_thread(until, all_up, deadline_s=60)


def test_tiers_stop_in_reverse_order(tmp_path: Path) -> None:
    first, second = script(tmp_path, "first"), script(tmp_path, "second")

    async def main() -> None:
        supervisor = Supervisor(tell=lambda _text: None, changed=lambda: None)
        async with supervisor.running():
            supervisor.start([first])
            supervisor.start([second])
            await up(first, second)
            assert set(supervisor.pids) == {"first", "second"}
        assert supervisor.pids == {}

    asyncio.run(main())
    assert (tmp_path / "record").read_text().split() == ["second", "first"]


def test_a_complaint_of_one_child_stops_the_others_and_is_raised(tmp_path: Path) -> None:
    good = script(tmp_path, "good")
    bad = script(tmp_path, "bad", "raise SystemExit(3)\n")

    async def main() -> None:
        supervisor = Supervisor(tell=lambda _text: None, changed=lambda: None)
        async with supervisor.running():
            supervisor.start([good])
            await up(good)
            supervisor.start([bad])
            await asyncio.Event().wait()

    with pytest.raises(ConfigError, match="bad cannot start"):
        asyncio.run(main())
    assert (tmp_path / "record").read_text().split() == ["good"]


def test_a_signal_ends_the_block_after_its_clean_up() -> None:
    cleaned: list[str] = []

    async def main() -> None:
        async with interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append("up")

    with pytest.raises(Interrupted) as caught:
        asyncio.run(main())
    assert caught.value.number == signal.SIGTERM
    assert cleaned == ["up"]


def test_our_own_error_goes_before_any_other() -> None:
    ours = ConfigError("ours")
    group = BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [OSError(), ours])])
    assert first_complaint(group) is ours
    assert isinstance(first_complaint(BaseExceptionGroup("", [ValueError()])), ValueError)
