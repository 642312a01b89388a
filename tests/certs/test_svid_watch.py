"""What is seen of SVIDs that are not renewed in time, and what of those that are."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import svid_watch
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.enrolment import Grant
from plantroom.certs.entry import Issued
from plantroom.certs.holder import IdentityHolder
from plantroom.certs.registry import Registry
from plantroom.certs.svid_watch import LATE, OVERDUE, SvidWatch
from plantroom.certs.time_floor import TimeFloor
from plantroom.wire.errors import UnreachableError
from plantroom.wire.spiffe import SpiffeId


class Heard:
    """Hears alarms as a broker would."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []

    async def say(self, rule: str, spiffe_id: SpiffeId, text: str) -> None:
        self.said.append((rule, spiffe_id.name, text))

    def new(self) -> list[tuple[str, str, bool]]:
        said, self.said = self.said, []
        return [(rule, name, bool(text)) for rule, name, text in said]


class Off(IdentityHolder):
    """Another's source, without an SVID."""

    async def run(self) -> None:
        """Get none."""


@pytest.fixture
def source(building: Authority, gateway_id: SpiffeId, clock: Any) -> EmbeddedSource:
    return EmbeddedSource(building, gateway_id, ttl_s=900, clock=clock)


@pytest.fixture
def watch(
    registry: Registry, source: EmbeddedSource, clock: Any, tmp_path: Path
) -> Iterator[SvidWatch]:
    floor = TimeFloor(clock, tmp_path / "time-floor")
    with svid_watch.opened(registry, (source, Off()), floor) as made:
        yield made


def issued(registry: Registry, spiffe_id: SpiffeId, clock: Any, *, late_s: float = 0.0) -> Grant:
    now_us = clock.wall_us()
    made = Issued(
        spiffe_id=spiffe_id, serial="AB", at_us=now_us, not_after_s=now_us // 1_000_000 + 900
    )
    registry.record_issued(made)
    return Grant(issued=made, chain_pem=b"", bundles={}, late_s=late_s)


def test_overdue_raises_and_a_renewal_clears(
    watch: SvidWatch, source: EmbeddedSource, registry: Registry, sensor_id: SpiffeId, clock: Any
) -> None:
    heard = Heard()

    def look() -> list[tuple[str, str, bool]]:
        asyncio.run(watch.look(heard.say))
        return heard.new()

    registry.create(sensor_id)
    issued(registry, sensor_id, clock)
    assert look() == []
    clock.offset_s = 620
    assert sorted(look()) == [(OVERDUE, "gateway", True), (OVERDUE, "hvac-001", True)]
    assert look() == []  # said once
    figures = {m.name: m.value for m in watch.metrics()}
    assert figures["plantroom_svids_overdue"] == 2
    source.renew()
    issued(registry, sensor_id, clock)
    assert sorted(look()) == [(OVERDUE, "gateway", False), (OVERDUE, "hvac-001", False)]


def test_a_restart_clears_what_was_raised_before_it(
    registry: Registry, source: EmbeddedSource, clock: Any
) -> None:
    heard = Heard()
    clock.offset_s = 620
    with svid_watch.opened(registry, (source,), TimeFloor(clock)) as watch:
        asyncio.run(watch.look(heard.say))
    source.renew()
    with svid_watch.opened(registry, (source,), TimeFloor(clock)) as again:
        asyncio.run(again.look(heard.say))
    assert heard.new() == [(OVERDUE, "gateway", True), (OVERDUE, "gateway", False)]


def test_a_late_renewal_raises_and_the_next_in_time_clears(
    watch: SvidWatch, registry: Registry, sensor_id: SpiffeId, clock: Any
) -> None:
    heard = Heard()
    registry.create(sensor_id)
    for late_s in (0.0, 86_400.0, 0.0, 0.0):
        watch.granted(issued(registry, sensor_id, clock, late_s=late_s))
    asyncio.run(watch.look(heard.say))
    assert [(rule, text) for rule, _, text in heard.said] == [
        (LATE, "SVID was renewed 86400 s too late"),
        (LATE, ""),
    ]


def test_the_reason_of_the_last_failure_is_said(
    watch: SvidWatch, source: EmbeddedSource, clock: Any
) -> None:
    heard = Heard()
    clock.offset_s = 620
    source.schedule.failed(clock.wall_us() / 1e6, UnreachableError("nobody answers"))
    asyncio.run(watch.look(heard.say))
    assert heard.said[0][2].endswith(": nobody answers")
    said = svid_watch.describe(source, clock.wall_us() / 1e6)
    assert said is not None
    assert (said["overdue"], said["failures"], said["last_error"]) == (True, 1, "nobody answers")
    assert said["spiffe_id"] == str(source.current().svid.spiffe_id)
    assert str(said["issuer"])
    assert str(said["renews_at"]) < str(said["not_after"])


def test_who_has_no_svid_says_nothing_and_a_renewal_elsewhere_has_no_time(clock: Any) -> None:
    assert svid_watch.describe(Off(), clock.wall_us() / 1e6) is None


def test_the_issuers_floor_is_kept(watch: SvidWatch, tmp_path: Path, clock: Any) -> None:
    asyncio.run(watch.look(Heard().say))
    kept_s = int((tmp_path / "time-floor").read_text())
    assert abs(kept_s - clock.wall_us() / 1e6) < 60


def test_an_issuer_ahead_of_the_clock_says_so_once_and_what_ends_it(
    registry: Registry,
    source: EmbeddedSource,
    clock: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, heard = tmp_path / "time-floor", Heard()
    path.write_text(f"{clock.wall_us() // 1_000_000 + 7200}\n")
    with (
        caplog.at_level(logging.INFO, "plantroom.certs.svid_watch"),
        svid_watch.opened(registry, (source,), TimeFloor(clock, path)) as watch,
    ):
        asyncio.run(watch.look(heard.say))
        asyncio.run(watch.look(heard.say))
        clock.offset_s = 7300
        asyncio.run(watch.look(heard.say))
    warned, over = caplog.messages
    assert warned.endswith("plantroom identity clock --accept")
    assert over.endswith("are one again")
