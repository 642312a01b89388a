"""The registry of updates: what was kept is there after a restart, and its audit is bounded."""

import asyncio
from pathlib import Path

import pytest

from plantroom.cloud import ota_registry
from plantroom.cloud.campaign import Campaign, Member, read_plan
from plantroom.cloud.ota_registry import Audit, Device, Known, OtaRegistry
from plantroom.cloud.ota_sites import Kept
from plantroom.wire.errors import StorageCorruptError

SITE = "building-1"


def campaign() -> Campaign:
    plan = read_plan(
        {"name": "spring", "release": "ab" * 32, "groups": [{"count": 1}, {"soak_s": 2}]}
    )
    member = Member(site=SITE, device="hvac-001", group=1, state="DOWNLOADING", chunks_done=3)
    return Campaign(plan=plan, standing="paused", why="why", members={(SITE, "hvac-001"): member})


def test_a_restart_knows_what_was_kept(tmp_path: Path) -> None:
    async def write(made: Campaign, device: Device, kept: Kept) -> None:
        registry = OtaRegistry(tmp_path / "ota.db")
        members = [("spring", member) for member in made.members.values()]
        audit = [Audit(at_us=1, event="registered", site=SITE, text="1.2")]
        await registry.keep(
            sites=[(SITE, kept)],
            devices=[device],
            campaigns=[made],
            members=members,
            audit=audit,
        )
        await registry.keep(audit=[Audit(at_us=2, event="updated", device="hvac-001")])
        await registry.keep()
        registry.close()

    async def read() -> tuple[Known, list[Audit]]:
        registry = OtaRegistry(tmp_path / "ota.db")
        try:
            return await registry.known(), await registry.audit(1)
        finally:
            registry.close()

    made = campaign()
    device = Device(site=SITE, device="hvac-001", kind="hvac", number=4, state="UPDATED")
    kept = Kept(trust=b"t", head=b"h", manifests={b"d": ("hvac", b"e")})
    asyncio.run(write(made, device, kept))
    known, (newest,) = asyncio.run(read())
    assert known.sites == {SITE: kept}
    assert known.devices == {(SITE, "hvac-001"): device}
    assert known.campaigns == {"spring": made}
    assert (newest.event, newest.device) == ("updated", "hvac-001")


def test_the_audit_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ota_registry, "AUDIT_ROWS_MAX", 10)
    monkeypatch.setattr(ota_registry, "_PRUNE_EVERY", 5)

    async def scenario() -> list[Audit]:
        registry = OtaRegistry(tmp_path / "ota.db")
        for number in range(40):
            await registry.keep(audit=[Audit(at_us=number, event="e")])
        try:
            return await registry.audit(1000)
        finally:
            registry.close()

    kept = asyncio.run(scenario())
    assert len(kept) <= 15
    assert kept[0].at_us == 39


@pytest.mark.parametrize(
    "row", ["INSERT INTO site VALUES('b', x'a0')", "INSERT INTO device VALUES('b', 'd', x'ff')"]
)
def test_a_row_that_is_not_what_was_written_is_named(row: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = OtaRegistry(tmp_path / "ota.db")
        try:
            await registry._database.write(lambda sql: sql.execute(row))
            with pytest.raises(StorageCorruptError, match="update registry"):
                await registry.known()
        finally:
            registry.close()

    asyncio.run(scenario())
