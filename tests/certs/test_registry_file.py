import contextlib
from pathlib import Path

import pytest

from plantroom.certs.registry import Registry
from plantroom.wire.errors import StorageCorruptError
from plantroom.wire.spiffe import SpiffeId

SAID = "registry of identities is damaged, {}: restore it from a backup;"


def test_a_damaged_registry_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StorageCorruptError) as caught:
        Registry.open(path)
    assert str(caught.value).startswith(SAID.format(path))
    assert "set aside" not in str(caught.value)


def test_a_registry_that_is_damaged_while_it_is_open_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with contextlib.closing(Registry.open(path)) as registry:
        registry.create(SpiffeId("building-1.smart.local", "agent/hvac-001"))
        registry._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"\0" * path.stat().st_size)
        registry._connection.execute("PRAGMA shrink_memory")
        with pytest.raises(StorageCorruptError) as caught:
            registry.deny("AB", reason="stolen")
    assert str(caught.value).startswith(SAID.format(path))
