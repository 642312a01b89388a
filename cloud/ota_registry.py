"""What the cloud remembers of updates: documents, devices, campaigns, and the audit, in SQLite.

One row a thing, its content as CBOR: what it means is for `ota_sites` and `campaign_rules`.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from plantroom.cloud.campaign import Campaign, Member
from plantroom.cloud.ota_sites import Kept
from plantroom.wire import cbor, shape
from plantroom.wire.database import Database
from plantroom.wire.errors import StorageCorruptError
from plantroom.wire.ota_messages import Report

AUDIT_ROWS_MAX: Final = 200_000
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
_PRUNE_EVERY: Final = 500

MIGRATIONS: Final = {
    "ota": (
        """
        CREATE TABLE site(site TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE device(
            site TEXT NOT NULL,
            device TEXT NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY(site, device)
        ) WITHOUT ROWID;
        CREATE TABLE campaign(name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE member(
            campaign TEXT NOT NULL,
            site TEXT NOT NULL,
            device TEXT NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY(campaign, site, device)
        ) WITHOUT ROWID;
        CREATE TABLE audit(
            id INTEGER PRIMARY KEY,
            at_us INTEGER NOT NULL,
            event TEXT NOT NULL,
            site TEXT NOT NULL,
            device TEXT NOT NULL,
            release TEXT NOT NULL,
            text TEXT NOT NULL
        );
        """,
    )
}


@dataclass(slots=True, kw_only=True)
class Device:
    """One device as updates see it; `assigned` is the version of the last word to it."""

    site: str
    device: str
    kind: str = ""
    number: int = -1
    state: str = ""
    code: str = ""
    text: str = ""
    at_us: int = 0
    release: str = ""
    version: str = ""
    chunks: int = 0
    chunks_done: int = 0
    running_version: str = ""
    running_sequence: int = 0
    running_release: str = ""
    assigned: int = 0

    def is_news(self, report: Report) -> bool:
        """Say whether a report is newer than the last; a device set up again counts anew."""
        begins = report.state in {"IDLE", "WAITING", "QUEUED"}
        return report.number > self.number or (begins and report.number < self.number)

    def take(self, report: Report, now_us: int) -> None:
        """Take a report."""
        self.number, self.state, self.code = report.number, report.state, report.code
        self.text, self.at_us = report.text, report.at_us or now_us
        self.release, self.version = report.release.hex(), report.version
        self.chunks, self.chunks_done = report.chunks, report.chunks_done
        self.running_version = report.running_version
        self.running_sequence = report.running_sequence
        self.running_release = report.running_digest.hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One line of the audit: what happened, to whom, about which release (hex)."""

    at_us: int
    event: str
    site: str = ""
    device: str = ""
    release: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Everything that was remembered."""

    sites: dict[str, Kept]
    devices: dict[tuple[str, str], Device]
    campaigns: dict[str, Campaign]


class OtaRegistry:
    """The file; every write is durable when it returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = Database.open(path, MIGRATIONS)
        self._unpruned = 0

    def close(self) -> None:
        """Close it; idempotent."""
        self._database.close()

    async def known(self) -> Known:
        """Read everything.

        Raises:
            StorageCorruptError: when a row is not what was written.
        """

        def read(sql: sqlite3.Connection) -> Known:
            campaigns = {
                name: _decode(Campaign, body)
                for name, body in sql.execute("SELECT name, body FROM campaign")
            }
            for name, body in sql.execute("SELECT campaign, body FROM member"):
                member = _decode(Member, body)
                if name in campaigns:
                    campaigns[name].members[member.site, member.device] = member
            devices = [_decode(Device, body) for (body,) in sql.execute("SELECT body FROM device")]
            return Known(
                sites={
                    site: _kept(_load(body))
                    for site, body in sql.execute("SELECT site, body FROM site")
                },
                devices={(one.site, one.device): one for one in devices},
                campaigns=campaigns,
            )

        try:
            return await self._database.read(read)
        except StorageCorruptError as error:
            raise StorageCorruptError(error.what, where=str(self._path)) from error

    async def keep(
        self,
        *,
        sites: Sequence[tuple[str, Kept]] = (),
        devices: Iterable[Device] = (),
        campaigns: Iterable[Campaign] = (),
        members: Iterable[tuple[str, Member]] = (),
        audit: Sequence[Audit] = (),
    ) -> None:
        """Write what has changed, all or nothing."""
        rows = [(site, _dump(_table(kept))) for site, kept in sites]
        known = [(one.site, one.device, _dump(one)) for one in devices]
        heads = [(one.plan.name, _dump(replace(one, members={}))) for one in campaigns]
        inside = [(name, one.site, one.device, _dump(one)) for name, one in members]

        def write(sql: sqlite3.Connection) -> None:
            sql.executemany("REPLACE INTO site VALUES(?, ?)", rows)
            sql.executemany("REPLACE INTO device VALUES(?, ?, ?)", known)
            sql.executemany("REPLACE INTO campaign VALUES(?, ?)", heads)
            sql.executemany("REPLACE INTO member VALUES(?, ?, ?, ?)", inside)
            sql.executemany(
                "INSERT INTO audit(at_us, event, site, device, release, text)"
                " VALUES(?, ?, ?, ?, ?, ?)",
                [(a.at_us, a.event, a.site, a.device, a.release, a.text) for a in audit],
            )
            self._prune(sql, len(audit))

        if rows or known or heads or inside or audit:
            await self._database.write(write)

    def _prune(self, sql: sqlite3.Connection, added: int) -> None:
        self._unpruned += added
        if self._unpruned >= _PRUNE_EVERY:
            self._unpruned = 0
            sql.execute(
                "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (AUDIT_ROWS_MAX,)
            )

    async def audit(self, limit: int = 100) -> list[Audit]:
        """Return the newest lines of the audit, newest first."""

        def read(sql: sqlite3.Connection) -> list[Audit]:
            rows = sql.execute(
                "SELECT at_us, event, site, device, release, text FROM audit"
                " ORDER BY id DESC LIMIT ?",
                (limit,),
            )
            names = ("at_us", "event", "site", "device", "release", "text")
            return [Audit(**dict(zip(names, row, strict=True))) for row in rows]

        return await self._database.read(read)


def _damaged(text: str) -> StorageCorruptError:
    return StorageCorruptError(f"a row of the update registry is damaged: {text}")


def _load(body: bytes) -> Any:
    return cbor.loads(body, bytes_max=BODY_BYTES_MAX, error=_damaged)


def _dump(value: Any) -> bytes:
    return cbor.dumps(shape.to_plain(value))


def _decode(kind: Any, body: bytes) -> Any:
    return shape.from_plain(kind, _load(body), _damaged)


def _table(kept: Kept) -> dict[str, Any]:
    return {
        "anchor": kept.anchor,
        "trust": kept.trust,
        "head": kept.head,
        "manifests": [
            [digest, name, envelope] for digest, (name, envelope) in kept.manifests.items()
        ],
    }


def _kept(table: Any) -> Kept:
    try:
        return Kept(
            anchor=table["anchor"],
            trust=table["trust"],
            head=table["head"],
            manifests={digest: (name, data) for digest, name, data in table["manifests"]},
        )
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(str(error)) from error
