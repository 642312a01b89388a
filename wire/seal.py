"""A checksum of a row, kept in the row: what no other part of a file proves is compared with it.

It finds what was changed by accident or by a hand that does not know of it; it is no signature.
"""

import sqlite3
import zlib
from hashlib import sha256


def seal(*values: object) -> int:
    """Return the checksum of a row's values, as they are read back from the database."""
    return zlib.crc32(repr(values).encode(errors="replace"))


def column(connection: sqlite3.Connection, table: str) -> str:
    """Return what to select for a table's seals; a file of a former version has none yet."""
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    return "seal" if "seal" in names else "NULL"


def hashes_to(body: object, digest: object) -> bool:
    """Say whether bytes are those of a hash; a changed column may hold anything at all."""
    return isinstance(body, bytes) and sha256(body).digest() == digest
