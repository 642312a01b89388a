"""A process's policy as a whole; with a real broker and real sockets where sessions matter."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from plantroom import policies
from plantroom.policies import decision_log, desk
from plantroom.policies.desk import PolicyDesk, World
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError
from plantroom.wire.policy import Question
from plantroom.wire.policy_settings import PolicySection

Ask = Callable[..., Question]
HVAC = "spiffe://building-1.smart.local/agent/hvac-001"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(policies.bundle_dir(), made, ignore=ignored)
    return made


def edit(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    written = folder.with_name("written")  # whoever looks meanwhile sees the one or the other
    written.write_text(text.replace(old, new))
    written.replace(folder / name)


class Still:
    """A clock that stands: an age is how long ago something was, not how busy the machine is."""

    def __init__(self) -> None:
        self.now_us = SystemClock().wall_us()

    def wall_us(self) -> int:
        return self.now_us

    def monotonic_us(self) -> int:
        return self.now_us


def world_in(state: Path | None) -> World:
    return World(
        clock=Still(),
        label="spiffe://building-1.smart.local/agent/gateway",
        cloud_trust_domain="smart-building.cloud",
        state=state,
    )


@asynccontextmanager
async def running(
    settings: PolicySection, state: Path | None, alarms: list[tuple[str, str]] | None = None
) -> AsyncIterator[PolicyDesk]:
    async def alarm(rule: str, text: str) -> None:
        if alarms is not None:
            alarms.append((rule, text))

    async with desk.opened(settings, world_in(state)) as office:
        task = asyncio.create_task(office.run(alarm))
        try:
            yield office
        finally:
            task.cancel()
            await asyncio.wait([task])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 -- another object's state
            await asyncio.sleep(0.01)


def test_answers_come_from_the_bundle_and_then_from_the_cache(
    tmp_path: Path, world: dict[str, Any], ask: Ask
) -> None:
    async def scenario() -> None:
        async with running(PolicySection(), tmp_path) as office:
            office.update(**world)
            sources = [office.decisions.now(ask()) for _ in range(2)]
            assert [one.source for one in sources if one] == ["embedded", "cached"]
            assert office.status()["provider"] == "embedded"
            names = {metric.name for metric in office.metrics()}
            assert "plantroom_policy_cache_hits_total" in names
        (event,) = decision_log.events(tmp_path / desk.FOLDER)
        assert event["result"]["allow"] is True, "what the cache answers is not written twice"

    asyncio.run(scenario())


def test_an_edit_takes_effect_and_a_broken_one_is_refused_with_file_line_and_message(
    tmp_path: Path, folder: Path, world: dict[str, Any], ask: Ask
) -> None:
    alarms: list[tuple[str, str]] = []

    async def scenario() -> None:
        settings = PolicySection(bundle=str(folder), poll_s=0.1)
        async with running(settings, tmp_path / "state", alarms) as office:
            office.update(**world)

            def allowed() -> bool:
                decision = office.decisions.now(ask())
                return decision is not None and decision.allow

            assert allowed()
            edit(folder, "acl/data.json", "telemetry/{name}", "elsewhere/{name}")
            await until(lambda: not allowed())
            edit(folder, "acl/data.json", "elsewhere/{name}", "telemetry/{name}")
            await until(allowed)
            revision = office.revision
            edit(folder, "mqtt/authz.rego", "allow if {", "allow if (")
            await until(lambda: bool(alarms))
            assert (office.revision, allowed()) == (revision, True)
            bundle: Any = office.status()["bundle"]
            assert "mqtt/authz.rego:" in bundle["fault"]
            faults = {m.name: m.value for m in office.metrics()}
            assert faults["plantroom_policy_bundle_fault"] == 1
            edit(folder, "mqtt/authz.rego", "allow if (", "allow if {")
            await until(lambda: len(alarms) == 2)
            assert office.status()["bundle"] == {"origin": "folder", "age_s": 0.0, "fault": ""}

    asyncio.run(scenario())
    (rule, text), over = alarms
    assert rule == desk.ALARM
    assert "mqtt/authz.rego:" in text
    assert "goes on" in text
    assert over == (desk.ALARM, "")


def test_a_start_without_the_folder_goes_by_the_last_good_bundle_and_cries(
    tmp_path: Path, folder: Path, world: dict[str, Any], ask: Ask
) -> None:
    alarms: list[tuple[str, str]] = []
    settings = PolicySection(bundle=str(folder), poll_s=0.1)

    async def scenario() -> None:
        async with running(settings, tmp_path / "state"):
            pass
        shutil.move(folder, tmp_path / "away")
        async with running(settings, tmp_path / "state", alarms) as office:
            office.update(**world)
            decision = office.decisions.now(ask())
            assert decision is not None
            assert decision.allow
            await until(lambda: bool(alarms))
            bundle: Any = office.status()["bundle"]
            assert bundle["origin"] == "last-good"
            assert bundle["fault"]
            shutil.move(tmp_path / "away", folder)
            await until(lambda: len(alarms) == 2)

    asyncio.run(scenario())
    assert "cannot be read" in alarms[0][1]


def test_without_any_bundle_nothing_starts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk.opened(PolicySection(bundle=str(tmp_path / "no")), world_in(tmp_path)):
            raise AssertionError

    with pytest.raises(ConfigError, match="cannot be read"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"endpoint": ""}, "policy.endpoint"),
        ({"endpoint": "http://opa.example:8181"}, "policy.endpoint"),
        ({"endpoint": "https://opa.example:8181"}, "policy.endpoint"),
        ({"endpoint": "https://opa.example:8181", "endpoint_id": "opa"}, "policy.endpoint_id"),
    ],
)
def test_a_server_that_cannot_be_asked_is_an_error_of_configuration(
    settings: dict[str, Any], what: str
) -> None:
    async def scenario() -> None:
        section = PolicySection(provider="remote", **settings)
        async with desk.opened(section, world_in(None)):
            raise AssertionError

    with pytest.raises(ConfigError, match=what):
        asyncio.run(scenario())


def test_a_hundred_live_sessions_are_decided_again_within_a_second(
    folder: Path, world: dict[str, Any]
) -> None:
    """Every second sensor may not subscribe any more; one is revoked; the rest go on."""
    from tests.policies.sessions import crowd

    names = [f"hvac-{number:03d}" for number in range(100)]

    async def scenario() -> None:
        settings = PolicySection(bundle=str(folder), poll_s=0.1)
        async with running(settings, None) as office, crowd(office, names, world) as sensors:
            began_s = time.monotonic()
            edit(folder, "acl/data.json", "twin/{name}/desired", "twin/{name}/wanted")
            await until(lambda: sensors.subscriptions == 0)
            edited_s = time.monotonic() - began_s
            assert sensors.connected == 100
            began_s = time.monotonic()
            revoked = {sensors.id_of(name): "lost" for name in names[:50]}
            revocation = {"generation": 2, "spiffe_ids": revoked, "serials": {}}
            office.update(revocation=revocation)
            await until(lambda: sensors.connected == 50)
            revoked_s = time.monotonic() - began_s
            assert await sensors.last_words("hvac-007") == 0x87
        print(f"edit {edited_s:.3f} s, revocation {revoked_s:.3f} s")  # noqa: T201 -- measured
        # Targets: 1 s, of a quiet machine; the bench measures them. Here: not by some timer.
        assert max(edited_s, revoked_s) < 10

    asyncio.run(scenario())
