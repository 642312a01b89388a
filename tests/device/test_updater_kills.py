"""A real agent is killed in the middle of its download, again and again: it goes on, and ends."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes import ota_author
from tests.fakes.ota_gateway import ImageGateway
from tests.fakes.waiting import until

KILLS = 6
IMAGE = random.Random(7).randbytes(6 * 1024 * 1024)  # noqa: S311 -- any bytes


@contextmanager
def agent(config: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run an agent until it is killed."""
    command = [sys.executable, "-m", "plantroom.device", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_an_agent_that_is_killed_resumes_its_download_and_is_updated(tmp_path: Path) -> None:
    with ImageGateway().serving() as gateway:
        config = gateway.configure(tmp_path / "device")
        gateway.release(IMAGE)
        chance = random.Random(11)  # noqa: S311 -- a reproducible fault
        for _ in range(KILLS):
            seen = len(gateway.reports)
            with agent(config):
                gateway.wait(lambda report: report.number > 0)
                wait_for_news(gateway, seen)
                time.sleep(chance.uniform(0.0, 0.4))  # a kill comes when it comes
        for _ in range(3):  # its restarts are a supervisor's
            with agent(config) as process:
                until(lambda: ended(gateway) or process.poll() is not None, deadline_s=180)
            if ended(gateway):
                break
        assert ended(gateway)
        last = gateway.reports[-1][1]
        assert last.running_digest == ota_author.digest(IMAGE)
        assert gateway.served < 2.5 * len(IMAGE) / 16384, "it began anew each time"


def wait_for_news(gateway: ImageGateway, seen: int) -> None:
    with gateway.news:
        assert gateway.news.wait_for(lambda: len(gateway.reports) > seen, 60)


def ended(gateway: ImageGateway) -> bool:
    return any(report.state == "UPDATED" for _, report in gateway.reports)
