"""What is kept of other trust domains: their bundles, and their lists of the revoked.

In the registry's file, so that a command's change is seen by whatever runs, and policy, enrolment
and this go by the same transaction. Nothing is ever replaced by something older.
"""

import json
import sqlite3
from pathlib import Path

from plantroom.certs import bundle as bundles
from plantroom.certs import denylist, registry
from plantroom.certs.denylist import DenyList
from plantroom.certs.registry_file import RegistryFile
from plantroom.wire import cbor, shape
from plantroom.wire.errors import EnvelopeError, SpiffeIdError
from plantroom.wire.identity import TrustBundle
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.sqlite import Migrations

MIGRATIONS: Migrations = {
    "trust": (
        """
        CREATE TABLE bundle(trust_domain TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
        """,
    )
}


class TrustStore(RegistryFile):
    """A connection of its own to the registry's file; may be called from any thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, {**registry.MIGRATIONS, **MIGRATIONS})

    def counter(self) -> int:
        """Return the registry's change counter."""
        return int(self._read("SELECT counter FROM change")[0][0])

    def bundles(self) -> dict[str, TrustBundle]:
        """Return the bundles of other trust domains that are kept here."""
        rows = self._read("SELECT trust_domain, document FROM bundle ORDER BY trust_domain")
        return {name: bundles.from_json(name, document.encode()) for name, document in rows}

    def adopt_bundle(self, told: TrustBundle, *, force: bool = False) -> bool:
        """Keep a bundle; False when it is known already. `force`: the operator says so.

        Raises:
            IdentityError: with reason `bundle-sequence` or `bad-bundle`.
        """

        def write(connection: sqlite3.Connection) -> bool:
            row = connection.execute(
                "SELECT document FROM bundle WHERE trust_domain = ?", (told.trust_domain,)
            ).fetchone()
            known = bundles.from_json(told.trust_domain, row[0].encode()) if row else None
            if force and known is not None and known.sequence >= told.sequence:
                known = None
            if known == told or not bundles.replaces(known, told):
                return False
            document = json.dumps(bundles.to_jwks(told))
            connection.execute(
                "INSERT OR REPLACE INTO bundle VALUES(?, ?)", (told.trust_domain, document)
            )
            connection.execute("UPDATE change SET counter = counter + 1")
            return True

        return self._write(write)

    def own_list(self, issuer: str) -> DenyList:
        """Return what this issuer has revoked, all of one moment."""
        rows = self._read(
            "SELECT sequence, denylist.at_us, kind, name, reason FROM denylist LEFT JOIN denied"
            " WHERE issuer = ''"
        )
        return DenyList(
            issuer=issuer,
            sequence=rows[0][0],
            at_us=rows[0][1],
            spiffe_ids={name: reason for _, _, kind, name, reason in rows if kind == "id"},
            serials={name: reason for _, _, kind, name, reason in rows if kind == "serial"},
        )

    def resume_list(self, kept: DenyList) -> None:
        """Revoke again what this issuer had revoked before it lost its file, as others keep it.

        The sequence goes on above theirs, so that they believe what comes next.
        """
        rows = [(*row, kept.at_us) for row in _rows(kept, own_only=False)]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR IGNORE INTO denied VALUES(?, ?, ?, ?)", rows)
            connection.execute(
                "UPDATE denylist SET sequence = max(sequence, ?), at_us = ? WHERE issuer = ''",
                (kept.sequence + 1, kept.at_us),
            )
            connection.execute("UPDATE change SET counter = counter + 1")

        self._write(write)

    def denied(self, issuer: str) -> dict[str, dict[str, str]]:
        """Return every ID that is denied here: who denies it, and why; `issuer` is this one."""
        rows = self._read(
            "SELECT name, '', reason FROM denied WHERE kind = 'id'"
            " UNION ALL SELECT name, issuer, reason FROM denied_elsewhere WHERE kind = 'id'"
        )
        found: dict[str, dict[str, str]] = {}
        for name, other, reason in rows:
            found.setdefault(name, {})[other or issuer] = reason
        return found

    def issuers(self) -> frozenset[str]:
        """Return the other trust domains whose list is here."""
        rows = self._read("SELECT issuer FROM denylist WHERE issuer != ''")
        return frozenset(issuer for (issuer,) in rows)

    def lists(self) -> dict[str, DenyList]:
        """Return the newest list of every other issuer that has told one."""
        rows = self._read("SELECT issuer, document FROM denylist WHERE issuer != ''")
        return {issuer: _from_document(document) for issuer, document in rows}

    def adopt_list(self, told: DenyList, *, own_only: bool) -> bool:
        """Deny what a verified list denies; False when it is known already.

        `own_only`: only IDs of the issuer's own trust domain, for an issuer that has no say over
        others (a serial number does not say whose it is, so those are left out as well).

        Raises:
            IdentityError: with reason `denylist-sequence` when it is older than the one that is
                kept, or another with the same sequence.
        """

        def write(connection: sqlite3.Connection) -> bool:
            row = connection.execute(
                "SELECT document FROM denylist WHERE issuer = ?", (told.issuer,)
            ).fetchone()
            if not denylist.newer(_from_document(row[0]) if row else None, told):
                return False
            connection.execute(
                "INSERT OR REPLACE INTO denylist VALUES(?, ?, ?, ?)",
                (told.issuer, told.sequence, told.at_us, cbor.dumps(shape.to_plain(told))),
            )
            connection.execute("DELETE FROM denied_elsewhere WHERE issuer = ?", (told.issuer,))
            connection.executemany(
                "INSERT INTO denied_elsewhere VALUES(?, ?, ?, ?)",
                [(told.issuer, *row) for row in _rows(told, own_only=own_only)],
            )
            connection.execute("UPDATE change SET counter = counter + 1")
            return True

        return self._write(write)


def _from_document(document: bytes) -> DenyList:
    table = cbor.loads(document, bytes_max=denylist.LIST_BYTES_MAX, error=EnvelopeError)
    found: DenyList = shape.from_plain(DenyList, table, EnvelopeError)
    return found


def _rows(told: DenyList, *, own_only: bool) -> list[tuple[str, str, str]]:
    ids = [("id", name, reason) for name, reason in told.spiffe_ids.items()]
    if own_only:
        return [row for row in ids if _domain(row[1]) == told.issuer]
    return ids + [("serial", name, reason) for name, reason in told.serials.items()]


def _domain(name: str) -> str:
    try:
        return SpiffeId.parse(name).trust_domain
    except SpiffeIdError:
        return ""
