"""Campaigns by command, asked of the real service without its broker."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plantroom.cloud.ota import Updates
from plantroom.lab import calling
from plantroom.lab.calling import Asked
from plantroom.lab.layout import Layout
from plantroom.wire.errors import CheckFailedError, RefusedError
from tests.cli.conftest import Run
from tests.fakes.ota_author import read
from tests.fakes.ota_cloud import SITE, OtaCloud, assigned, born, manifest, report

pytestmark = pytest.mark.usefixtures("set_up")


class Fleet:
    """Two devices of a building, and the service that knows them."""

    def __init__(self, cloud: OtaCloud, updates: Updates) -> None:
        self.cloud = cloud
        self.updates = updates
        self.release = read(cloud.author.manifest()).digest

    def take(self, *messages: Any) -> list[Any]:
        return asyncio.run(self.updates.take(messages))

    def tick(self) -> dict[str, Any]:
        return assigned(asyncio.run(self.updates.tick()))

    async def call(self, _layout: Layout, asked: Asked, *, broker: str | None = None) -> Any:
        assert broker == "cloud"
        assert str(asked.target) == "spiffe://smart-building.cloud/agent/ota"
        try:
            return await self.cloud.call(self.updates, asked.capability, asked.data)
        except RefusedError as error:
            raise CheckFailedError(f"it answered with an error: {error}") from error


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    folder = tmp_path / "service"
    folder.mkdir()
    cloud = OtaCloud(folder)
    with cloud.opened() as updates:
        made = Fleet(cloud, updates)
        monkeypatch.setattr(calling, "call", made.call)
        made.take(born("hvac-001"), born("hvac-002"), manifest(cloud.author))
        yield made


def plan(folder: Path, release: bytes, more: str = "[[groups]]\ncount = 1\n[[groups]]\n") -> str:
    path = folder / "plan.toml"
    path.write_text(f'name = "spring"\nrelease = "{release.hex()}"\n{more}')
    return str(path)


def test_a_campaign_is_begun_watched_and_ended(run: Run, fleet: Fleet, tmp_path: Path) -> None:
    begun = run("ota", "campaign", "create", plan(tmp_path, fleet.release))
    assert begun.code == 0, begun.err
    assert begun.out.splitlines()[1].split()[:2] == ["spring", "running"]
    (canary,) = fleet.tick()
    said = report(canary, "DOWNLOADING", release=fleet.release, chunks=9, chunks_done=4)
    fleet.take(said)
    shown = run("ota", "campaign", "show", "spring")
    assert f"{SITE}  {canary}  1      DOWNLOADING        4/9" in shown.out
    assert run("ota", "campaign", "pause", "spring").code == 0
    (row,) = json.loads(run("ota", "campaign", "ls", "--json").out)
    assert (row["standing"], row["why"]) == ("paused", "by cloud:operator:ann")
    assert run("ota", "campaign", "resume", "spring").code == 0
    aborted = json.loads(run("ota", "campaign", "abort", "spring", "--json").out)
    assert aborted[0]["standing"] == "aborted"
    assert json.loads(run("ota", "campaign", "show", "spring", "--json").out)["devices"] == 2


def test_releases_are_listed_and_revoked_and_the_audit_knows(run: Run, fleet: Fleet) -> None:
    listed = run("ota", "releases")
    assert fleet.release.hex() in listed.out
    assert json.loads(run("ota", "releases", "--json").out)[0]["class"] == "hvac"
    revoked = run("ota", "revoke", fleet.release.hex(), "--site", SITE)
    assert revoked.out == f"revoked at {SITE}\n"
    assert "revoked" in run("ota", "releases").out
    lines = run("ota", "audit").out.splitlines()
    assert lines[1].split()[1] == "revoked"
    (newest,) = json.loads(run("ota", "audit", "--limit", "1", "--json").out)
    assert newest["text"] == "by cloud:operator:ann"


@pytest.mark.parametrize(
    "case",
    [
        (b"name = ", 2, "not TOML"),
        (b"\xff", 2, "not TOML"),
        (b"name = 'a b'\nrelease = 'x'", 1, "name is letters"),
        (b"when = 'now'", 1, "when is not known"),
        (None, 2, "cannot be read"),
    ],
)
def test_a_plan_that_is_wrong_is_one_line(
    case: tuple[bytes | None, int, str], run: Run, fleet: Fleet, tmp_path: Path
) -> None:
    content, code, what = case
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_bytes(content)
    refused = run("ota", "campaign", "create", str(path))
    assert refused.code == code
    assert what in refused.err
    assert len(refused.err.splitlines()) == 1
    assert not fleet.updates.campaigns
