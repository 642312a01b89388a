"""Who may have an identity here: registration entries, join tokens and the denied.

One SQLite file that the commands and a running gateway or cloud use at the same time. Everything
that policy depends on raises one counter in the same transaction, so that a running process
notices a command's change by reading one number. Tokens are kept as SHA-256 only.
"""

import hashlib
import secrets
import sqlite3
from pathlib import Path
from typing import Any

from plantroom.certs import der
from plantroom.certs.entry import SVID_TTL_S, Denials, Entry, Issued, from_row, to_row
from plantroom.certs.registry_file import RegistryFile
from plantroom.certs.roles import CLOUD_TRUST_DOMAIN, ROLES, role_of, site_of
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.errors import IdentityError, UsageError
from plantroom.wire.spiffe import SpiffeId

TOKEN_TTL_S = 600
_S = 1_000_000

MIGRATIONS = {
    "registry": (
        """
        CREATE TABLE IF NOT EXISTS entry(
            spiffe_id TEXT PRIMARY KEY, role TEXT NOT NULL, parent TEXT NOT NULL,
            selectors TEXT NOT NULL, ttl_s INTEGER NOT NULL, dns TEXT NOT NULL, ips TEXT NOT NULL,
            created_us INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS token(
            hash BLOB PRIMARY KEY, spiffe_id TEXT NOT NULL, expires_us INTEGER NOT NULL,
            used_by BLOB) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS denied(
            kind TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL, at_us INTEGER NOT NULL,
            PRIMARY KEY(kind, name)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS issued(
            spiffe_id TEXT PRIMARY KEY, serial TEXT NOT NULL, at_us INTEGER NOT NULL,
            not_after_s INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS change(id INTEGER PRIMARY KEY CHECK(id = 1),
            counter INTEGER NOT NULL);
        INSERT OR IGNORE INTO change VALUES(1, 1);
        """,
        "ALTER TABLE entry ADD COLUMN hint TEXT NOT NULL DEFAULT '';",
        """
        CREATE TABLE denylist(
            issuer TEXT PRIMARY KEY, sequence INTEGER NOT NULL, at_us INTEGER NOT NULL,
            document BLOB NOT NULL) WITHOUT ROWID;
        INSERT INTO denylist VALUES('', 1, 0, x'');
        CREATE TABLE denied_elsewhere(
            issuer TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL,
            PRIMARY KEY(issuer, kind, name)) WITHOUT ROWID;
        """,
    )
}


class Registry(RegistryFile):
    """The registry file; may be called from any thread, one call at a time."""

    def __init__(self, path: Path, *, clock: Clock, cloud_trust_domain: str) -> None:
        super().__init__(path, MIGRATIONS)
        self._clock = clock
        self._cloud = cloud_trust_domain

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Clock | None = None,
        cloud_trust_domain: str = CLOUD_TRUST_DOMAIN,
    ) -> "Registry":
        """Open the registry, making it if there is none.

        Raises:
            StorageError: when the file cannot be used.
        """
        return cls(path, clock=clock or SystemClock(), cloud_trust_domain=cloud_trust_domain)

    # entries

    def create(  # noqa: PLR0913 -- one keyword for each column
        self,
        spiffe_id: SpiffeId,
        *,
        role: str | None = None,
        parent: str = "",
        selectors: tuple[str, ...] = (),
        ttl_s: int = SVID_TTL_S,
        dns: tuple[str, ...] = (),
        ips: tuple[str, ...] = (),
        hint: str = "",
    ) -> Entry:
        """Create an entry, or replace the one of this ID; `role` overrides what its path says.

        Raises:
            UsageError: when the role, the life, a DNS name or an address cannot be.
            TopicError: when its last element may not be a topic level.
        """
        role = role or role_of(spiffe_id, cloud_trust_domain=self._cloud)
        if role not in ROLES:
            raise UsageError(
                "this SPIFFE ID's path says no role",
                where=str(spiffe_id),
                remedy=f"name one with --role: {', '.join(ROLES)}",
            )
        entry = Entry(
            spiffe_id=spiffe_id,
            role=role,
            parent=parent,
            selectors=selectors,
            ttl_s=ttl_s,
            dns=dns,
            ips=ips,
            created_us=self._clock.wall_us(),
            hint=hint,
        )
        row = to_row(entry)

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO entry VALUES(?,?,?,?,?,?,?,?,?)", row)
            _changed(connection)

        self._write(insert)
        return entry

    def list(self) -> tuple[Entry, ...]:
        """Return all entries, ordered by SPIFFE ID."""
        return tuple(map(from_row, self._read("SELECT * FROM entry ORDER BY spiffe_id")))

    def show(self, spiffe_id: SpiffeId) -> Entry:
        """Return the entry of this ID.

        Raises:
            IdentityError: with reason `no-entry`.
        """
        rows = self._read("SELECT * FROM entry WHERE spiffe_id = ?", str(spiffe_id))
        if not rows:
            raise _no_entry(spiffe_id)
        return from_row(rows[0])

    def delete(self, spiffe_id: SpiffeId) -> None:
        """Delete the entry and its join tokens.

        Raises:
            IdentityError: with reason `no-entry`.
        """

        def delete(connection: sqlite3.Connection) -> None:
            name = (str(spiffe_id),)
            if not connection.execute("DELETE FROM entry WHERE spiffe_id = ?", name).rowcount:
                raise _no_entry(spiffe_id)
            connection.execute("DELETE FROM token WHERE spiffe_id = ?", name)
            connection.execute("DELETE FROM issued WHERE spiffe_id = ?", name)
            _changed(connection)

        self._write(delete)

    # join tokens

    def token_create(self, spiffe_id: SpiffeId, *, ttl_s: int = TOKEN_TTL_S) -> str:
        """Make a join token that enrols this ID once, within `ttl_s`.

        Raises:
            IdentityError: when there is no entry for the ID, or it is denied.
        """
        token = secrets.token_urlsafe(32)
        now_us = self._clock.wall_us()

        def insert(connection: sqlite3.Connection) -> None:
            _check_admitted(connection, spiffe_id, None)
            connection.execute("DELETE FROM token WHERE expires_us < ?", (now_us - 86_400 * _S,))
            connection.execute(
                "INSERT INTO token VALUES(?,?,?,NULL)",
                (_hash(token), str(spiffe_id), now_us + ttl_s * _S),
            )

        self._write(insert)
        return token

    def redeem(
        self, token: str, *, key_hash: bytes, claims: frozenset[str] = frozenset()
    ) -> SpiffeId:
        """Use a join token up for the key with this hash, and return the ID it is bound to.

        `claims`: the IDs that the asker wrote into its CSR; another than the token's costs no
        token. The same key may present it again while it is valid: its first answer may have been
        lost.

        Raises:
            IdentityError: with reason `token-unknown`, `token-used`, `token-expired`, `wrong-id`,
                `no-entry` or `denied`.
        """
        now_us = self._clock.wall_us()

        def use(connection: sqlite3.Connection) -> SpiffeId:
            row = connection.execute(
                "SELECT spiffe_id, expires_us, used_by FROM token WHERE hash = ?", (_hash(token),)
            ).fetchone()
            if row is None:
                raise IdentityError("join token is not known", reason="token-unknown")
            name, expires_us, used_by = row
            if used_by not in {None, key_hash}:
                raise IdentityError("join token has been used", reason="token-used", where=name)
            if now_us >= expires_us:
                raise IdentityError("join token has expired", reason="token-expired", where=name)
            spiffe_id = SpiffeId.parse(name)
            check_claims(claims, spiffe_id)
            _check_admitted(connection, spiffe_id, None)
            connection.execute(
                "UPDATE token SET used_by = ? WHERE hash = ?", (key_hash, _hash(token))
            )
            return spiffe_id

        return self._write(use)

    # issuing and denying

    def admitted(self, spiffe_id: SpiffeId, *, serial: str | None = None) -> Entry:
        """Return the entry if this ID may have an SVID now.

        Raises:
            IdentityError: with reason `no-entry` or `denied`.
        """
        with self._held() as connection:
            return _check_admitted(connection, spiffe_id, serial)

    def record_issued(self, issued: Issued) -> None:
        """Note the newest SVID of an entry."""
        row = (str(issued.spiffe_id), issued.serial, issued.at_us, issued.not_after_s)
        self._write(lambda c: c.execute("INSERT OR REPLACE INTO issued VALUES(?,?,?,?)", row))

    def last_issued(self, spiffe_id: SpiffeId) -> Issued | None:
        """Return the newest SVID that was issued for this ID."""
        rows = self._read(
            "SELECT serial, at_us, not_after_s FROM issued WHERE spiffe_id = ?", str(spiffe_id)
        )
        if not rows:
            return None
        serial, at_us, not_after_s = rows[0]
        return Issued(spiffe_id=spiffe_id, serial=serial, at_us=at_us, not_after_s=not_after_s)

    def deny(self, name: SpiffeId | str, *, reason: str) -> None:
        """Revoke a SPIFFE ID, or one SVID by its serial (text)."""
        row = (*_denied_key(name), reason, self._clock.wall_us())

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO denied VALUES(?,?,?,?)", row)
            self._list_changed(connection)

        self._write(insert)

    def restore(self, name: SpiffeId | str) -> bool:
        """Undo `deny`; False if it was not denied."""

        def delete(connection: sqlite3.Connection) -> bool:
            gone = connection.execute(
                "DELETE FROM denied WHERE kind = ? AND name = ?", _denied_key(name)
            ).rowcount
            if gone:
                self._list_changed(connection)
            return bool(gone)

        return self._write(delete)

    def _list_changed(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE denylist SET sequence = sequence + 1, at_us = ? WHERE issuer = ''",
            (self._clock.wall_us(),),
        )
        _changed(connection)

    # what policy sees

    def counter(self) -> int:
        """Return the change counter: it rises with every change that policy depends on."""
        return int(self._read("SELECT counter FROM change")[0][0])

    def denials(self) -> Denials:
        """Return what is revoked here."""
        rows = self._read("SELECT kind, name, reason FROM denied ORDER BY kind, name")
        return Denials(
            spiffe_ids={name: reason for kind, name, reason in rows if kind == "id"},
            serials={name: reason for kind, name, reason in rows if kind == "serial"},
        )

    def policy_data(self) -> dict[str, Any]:
        """Return entries and denials as the documents `registry` and `revocation` of policy.

        What is denied is the union of this issuer's list and of those that others have told.
        """
        with self._held() as connection:
            connection.execute("BEGIN")  # one snapshot
            try:
                entries = connection.execute("SELECT spiffe_id, role FROM entry").fetchall()
                denied = connection.execute(
                    "SELECT kind, name, reason FROM denied_elsewhere"
                    " UNION ALL SELECT kind, name, reason FROM denied"
                )
                denials: dict[str, dict[str, str]] = {"id": {}, "serial": {}}
                for kind, name, reason in denied:
                    denials[kind][name] = reason
                counter = connection.execute("SELECT counter FROM change").fetchone()[0]
            finally:
                connection.execute("COMMIT")
        devices = {
            name: self._device(SpiffeId.parse(name), role, denied=name in denials["id"])
            for name, role in entries
        }
        return {
            "registry": {"devices": devices},
            "revocation": {
                "generation": counter,
                "spiffe_ids": denials["id"],
                "serials": denials["serial"],
            },
        }

    def _device(self, spiffe_id: SpiffeId, role: str, *, denied: bool) -> dict[str, str]:
        return {
            "role": role,
            "site": site_of(spiffe_id, cloud_trust_domain=self._cloud),
            "device": spiffe_id.name,
            "status": "revoked" if denied else "active",
        }


def check_claims(claims: frozenset[str], spiffe_id: SpiffeId) -> None:
    """Refuse a CSR that asks for another ID than the one that was proven; it may name none.

    Raises:
        IdentityError: with reason `wrong-id`.
    """
    if not claims <= {str(spiffe_id)}:
        raise IdentityError(
            f"CSR asks for {', '.join(sorted(claims))[:200]}",
            reason="wrong-id",
            where=str(spiffe_id),
        )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _changed(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE change SET counter = counter + 1")


def _denied_key(name: SpiffeId | str) -> tuple[str, str]:
    if isinstance(name, SpiffeId):
        return "id", str(name)
    return "serial", der.serial_text(int(name, 16))


def _no_entry(spiffe_id: SpiffeId) -> IdentityError:
    return IdentityError(
        "no registration entry",
        reason="no-entry",
        where=str(spiffe_id),
        remedy="plantroom identity entry create",
    )


def _check_admitted(
    connection: sqlite3.Connection, spiffe_id: SpiffeId, serial: str | None
) -> Entry:
    name = str(spiffe_id)
    row = connection.execute("SELECT * FROM entry WHERE spiffe_id = ?", (name,)).fetchone()
    if row is None:
        raise _no_entry(spiffe_id)
    denied = connection.execute(
        "WITH asked(kind, name) AS (VALUES('id', ?1), ('serial', ?2))"
        " SELECT reason FROM denied WHERE (kind, name) IN asked"
        " UNION ALL SELECT reason FROM denied_elsewhere WHERE (kind, name) IN asked",
        (name, serial or ""),
    ).fetchone()
    if denied:
        raise IdentityError(f"revoked ({denied[0]})", reason="denied", where=name)
    return from_row(row)
