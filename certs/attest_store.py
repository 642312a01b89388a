"""What attestation keeps in the registry's file: known chips, golden registers, who waits.

And who was admitted by the fingerprint of its key.
A fingerprint is the SHA-256 of a key's SPKI as hex: of the key that a device made before it was
known here, or of the endorsement key in its chip.
"""

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plantroom.certs.registry_file import RegistryFile
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.errors import IdentityError, UsageError
from plantroom.wire.spiffe import SpiffeId

Pcrs = Mapping[int, bytes]
KEY, EK = "key", "ek"
ADMITTED_S = 7 * 86_400
WAITING_MAX = 1000
_CLAIM_CHARACTERS_MAX = 300
_S = 1_000_000

MIGRATIONS = {
    "attestation": (
        """
        CREATE TABLE ek(fingerprint TEXT PRIMARY KEY, note TEXT NOT NULL, at_us INTEGER NOT NULL)
            WITHOUT ROWID;
        CREATE TABLE golden(name TEXT NOT NULL, digest TEXT NOT NULL, pcrs TEXT NOT NULL,
            at_us INTEGER NOT NULL, PRIMARY KEY(name, digest)) WITHOUT ROWID;
        CREATE TABLE quoted(spiffe_id TEXT PRIMARY KEY, golden TEXT NOT NULL, pcrs TEXT NOT NULL,
            at_us INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE waiting(fingerprint TEXT PRIMARY KEY, kind TEXT NOT NULL, claim TEXT NOT NULL,
            peer TEXT NOT NULL, since_us INTEGER NOT NULL, last_us INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX waiting_last ON waiting(last_us);
        CREATE TABLE admitted(fingerprint TEXT PRIMARY KEY, spiffe_id TEXT NOT NULL,
            expires_us INTEGER NOT NULL) WITHOUT ROWID;
        """,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Somebody who has asked and is not known; `claim` is what it calls itself, unproven."""

    fingerprint: str
    kind: str
    claim: str
    peer: str
    since_us: int
    last_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Registers that a device may have: one of the sets of this name."""

    name: str
    digest: str
    pcrs: Pcrs
    at_us: int


def fingerprint_of(text: str) -> str:
    """Read a fingerprint as a person types it: hex, in groups or not.

    Raises:
        UsageError: when it is not the hex of a SHA-256.
    """
    plain = re.sub(r"[\s:-]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise UsageError(
            "not a fingerprint", where=text[:80], remedy="write its 64 hexadecimal digits"
        )
    return plain


class AttestStore(RegistryFile):
    """The tables of attestation; may be called from any thread, one call at a time.

    Raises:
        StorageError: when the file cannot be used.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        super().__init__(path, MIGRATIONS)
        self._clock = clock or SystemClock()

    # chips that are known without the certificate of their maker

    def ek_allow(self, fingerprint: str, *, note: str = "") -> None:
        """Accept this endorsement key, whoever signed it or not."""
        row = (fingerprint, note, self._clock.wall_us())
        self._write(lambda c: c.execute("INSERT OR REPLACE INTO ek VALUES(?,?,?)", row))

    def ek_forget(self, fingerprint: str) -> bool:
        """Undo `ek_allow`; False if it was not allowed."""
        sql = "DELETE FROM ek WHERE fingerprint = ?"
        return bool(self._write(lambda c: c.execute(sql, (fingerprint,)).rowcount))

    def ek_allowed(self, fingerprint: str) -> bool:
        """Say whether this endorsement key was allowed."""
        return bool(self._read("SELECT 1 FROM ek WHERE fingerprint = ?", fingerprint))

    def eks(self) -> list[tuple[str, str, int]]:
        """Return fingerprint, note and time of each that was allowed."""
        return [
            (str(row[0]), str(row[1]), int(row[2]))
            for row in self._read("SELECT fingerprint, note, at_us FROM ek ORDER BY at_us")
        ]

    def ids_of_ek(self, fingerprint: str) -> tuple[SpiffeId, ...]:
        """Return the IDs whose entries name this endorsement key."""
        rows = self._read(
            "SELECT spiffe_id FROM entry WHERE instr(selectors, ?) ORDER BY spiffe_id",
            json.dumps(f"tpm:pub_hash:{fingerprint}"),
        )
        return tuple(SpiffeId.parse(name) for (name,) in rows)

    # golden registers

    def check_pcrs(self, spiffe_id: SpiffeId, golden: str | None, pcrs: Pcrs) -> None:
        """Compare registers with the golden sets of this name.

        Without a name the device has sets of its own, and the first that it shows is recorded.
        What was shown last is kept, so that an operator can accept it.

        Raises:
            IdentityError: with reason `pcr-policy`, or `pcr-unknown` when the name has no set.
        """
        name, text, digest = golden or str(spiffe_id), _pcrs_text(pcrs), digest_of(pcrs)
        now_us = self._clock.wall_us()

        def compare(connection: sqlite3.Connection) -> bool | None:
            connection.execute(
                "INSERT OR REPLACE INTO quoted VALUES(?,?,?,?)",
                (str(spiffe_id), name, text, now_us),
            )
            rows = connection.execute("SELECT digest FROM golden WHERE name = ?", (name,))
            known = {row[0] for row in rows}
            if not known and golden is None:
                connection.execute(
                    "INSERT INTO golden VALUES(?,?,?,?)", (name, digest, text, now_us)
                )
                return True
            return digest in known if known else None

        matches = self._write(compare)
        if not matches:
            raise IdentityError(
                "registers are not those of a golden set"
                if matches is False
                else f"golden set {name} has no registers",
                reason="pcr-policy" if matches is False else "pcr-unknown",
                where=str(spiffe_id),
                remedy="when this start of the device is the wanted one: "
                f"plantroom identity golden accept {spiffe_id}",
            )

    def accept_quoted(self, spiffe_id: SpiffeId) -> Golden:
        """Add what a device has shown last to its golden sets.

        Raises:
            IdentityError: with reason `no-quote` when it has shown nothing.
        """
        rows = self._read("SELECT golden, pcrs FROM quoted WHERE spiffe_id = ?", str(spiffe_id))
        if not rows:
            raise IdentityError(
                "this device has shown no registers yet", reason="no-quote", where=str(spiffe_id)
            )
        name, text = rows[0]
        return self.golden_add(name, _pcrs(text))

    def golden_add(self, name: str, pcrs: Pcrs) -> Golden:
        """Add a set; a device that asks for this name may have any of them."""
        made = Golden(name=name, digest=digest_of(pcrs), pcrs=pcrs, at_us=self._clock.wall_us())
        row = (name, made.digest, _pcrs_text(pcrs), made.at_us)
        self._write(lambda c: c.execute("INSERT OR REPLACE INTO golden VALUES(?,?,?,?)", row))
        return made

    def golden_delete(self, name: str, digest: str = "") -> int:
        """Delete one set, or all of a name, and return how many."""
        sql = "DELETE FROM golden WHERE name = ? AND (? = '' OR digest = ?)"
        return int(self._write(lambda c: c.execute(sql, (name, digest, digest)).rowcount))

    def goldens(self) -> tuple[Golden, ...]:
        """Return every set."""
        rows = self._read("SELECT name, digest, pcrs, at_us FROM golden ORDER BY name, at_us")
        return tuple(
            Golden(name=name, digest=digest, pcrs=_pcrs(text), at_us=at_us)
            for name, digest, text, at_us in rows
        )

    # who waits, and who was admitted

    def wait(self, fingerprint: str, kind: str, *, claim: str, peer: str) -> None:
        """Note who asks without being known; beyond a limit who has not asked longest goes."""
        now_us = self._clock.wall_us()
        row = (fingerprint, kind, claim[:_CLAIM_CHARACTERS_MAX], peer, now_us, now_us)

        def note(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO waiting VALUES(?,?,?,?,?,?) ON CONFLICT(fingerprint) DO UPDATE "
                "SET claim = excluded.claim, peer = excluded.peer, last_us = excluded.last_us",
                row,
            )
            connection.execute(
                "DELETE FROM waiting WHERE fingerprint IN (SELECT fingerprint FROM waiting "
                "ORDER BY last_us DESC LIMIT -1 OFFSET ?)",
                (WAITING_MAX,),
            )

        self._write(note)

    def waiting(self) -> tuple[Waiting, ...]:
        """Return who waits, who asked last first."""
        columns = "fingerprint, kind, claim, peer, since_us, last_us"
        rows = self._read(f"SELECT {columns} FROM waiting ORDER BY last_us DESC, fingerprint")
        return tuple(Waiting(**dict(zip(columns.split(", "), row, strict=True))) for row in rows)

    def admit(self, fingerprint: str, spiffe_id: SpiffeId, *, valid_s: int = ADMITTED_S) -> None:
        """Let the key with this fingerprint enrol as this ID; it may have asked already or not."""
        row = (fingerprint, str(spiffe_id), self._clock.wall_us() + valid_s * _S)

        def insert(connection: sqlite3.Connection) -> None:
            now_us = (self._clock.wall_us(),)
            connection.execute("DELETE FROM admitted WHERE expires_us < ?", now_us)
            connection.execute("INSERT OR REPLACE INTO admitted VALUES(?,?,?)", row)
            connection.execute("DELETE FROM waiting WHERE fingerprint = ?", (fingerprint,))

        self._write(insert)

    def admitted(self, fingerprint: str) -> SpiffeId | None:
        """Return the ID that this key was admitted as."""
        sql = "SELECT spiffe_id FROM admitted WHERE fingerprint = ? AND expires_us > ?"
        rows = self._read(sql, fingerprint, self._clock.wall_us())
        return SpiffeId.parse(rows[0][0]) if rows else None


def digest_of(pcrs: Pcrs) -> str:
    """Return the SHA-256 over registers and their numbers, as hex."""
    return hashlib.sha256(_pcrs_text(pcrs).encode()).hexdigest()


def _pcrs_text(pcrs: Pcrs) -> str:
    return json.dumps({str(pcr): pcrs[pcr].hex() for pcr in sorted(pcrs)})


def _pcrs(text: str) -> dict[int, bytes]:
    return {int(pcr): bytes.fromhex(value) for pcr, value in json.loads(text).items()}
