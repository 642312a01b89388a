import sqlite3
from hashlib import sha256

from plantroom.wire.seal import column, hashes_to, seal


def test_every_value_and_its_place_counts() -> None:
    row = (7, "full", None, b"\x00", 1.5)
    assert seal(*row) == seal(*row)
    others = [(*row[:n], "other", *row[n + 1 :]) for n in range(len(row))]
    others += [row[::-1], row[:-1], (7, "full", "None", b"\x00", 1.5)]
    assert seal(*row) not in {seal(*other) for other in others}


def test_it_survives_the_database() -> None:
    row = (2**53 - 1, "grüße", None, b"\xff", -1)
    with sqlite3.connect(":memory:") as connection:
        back = connection.execute("SELECT ?, ?, ?, ?, ?", row).fetchone()
    connection.close()
    assert seal(*back) == seal(*row)


def test_a_table_of_a_former_version_has_no_seal() -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE book(id)")
        assert column(connection, "book") == "NULL"
        connection.execute("ALTER TABLE book ADD COLUMN seal INTEGER")
        assert column(connection, "book") == "seal"
    connection.close()


def test_only_the_bytes_of_a_hash_are_its_own() -> None:
    assert hashes_to(b"body", sha256(b"body").digest())
    for body, digest in ((b"bodY", sha256(b"body").digest()), (None, b""), ("body", 7)):
        assert not hashes_to(body, digest)
