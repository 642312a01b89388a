"""Entries, join tokens and denials, also when two processes have the registry open."""

import contextlib
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs.registry import Registry
from plantroom.wire.errors import IdentityError, RefusedError, StorageError, TopicError, UsageError
from plantroom.wire.spiffe import SpiffeId

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def reason(caught: Any) -> str:
    assert isinstance(caught.value, RefusedError)
    return caught.value.reason


def test_an_entry_is_kept_as_it_was_given(registry: Registry, sensor_id: SpiffeId) -> None:
    made = registry.create(
        sensor_id,
        parent="spiffe://building-1.smart.local/agent/gateway",
        selectors=("unix:uid:1000",),
        ttl_s=900,
        dns=("a.b",),
        ips=("::1",),
    )
    assert made.role == "sensor"
    assert registry.show(sensor_id) == made
    assert registry.list() == (made,)
    registry.delete(sensor_id)
    assert registry.list() == ()


def test_an_entry_that_is_missing_is_said_to_be(registry: Registry, sensor_id: SpiffeId) -> None:
    for ask in (
        registry.show,
        registry.delete,
        registry.token_create,
        registry.admitted,
    ):
        with pytest.raises(IdentityError) as caught:
            ask(sensor_id)
        assert reason(caught) == "no-entry"


def test_an_id_that_says_no_role_needs_one(registry: Registry) -> None:
    odd = SpiffeId.parse("spiffe://building-1.smart.local/workload/x")
    with pytest.raises(UsageError, match="--role"):
        registry.create(odd)
    assert registry.create(odd, role="sensor").role == "sensor"
    with pytest.raises(UsageError):
        registry.create(odd, role="king")


def test_an_id_whose_name_cannot_be_a_topic_level_is_refused(registry: Registry) -> None:
    with pytest.raises(TopicError):
        registry.create(SpiffeId.parse("spiffe://building-1.smart.local/agent/.hidden"))


def test_a_token_is_used_once_and_says_why_not_again(
    registry: Registry, sensor_id: SpiffeId, clock: Any
) -> None:
    registry.create(sensor_id)
    token = registry.token_create(sensor_id)
    assert registry.redeem(token, key_hash=KEY) == sensor_id
    assert registry.redeem(token, key_hash=KEY) == sensor_id
    with pytest.raises(IdentityError) as used:
        registry.redeem(token, key_hash=OTHER_KEY)
    fresh = registry.token_create(sensor_id)
    clock.offset_s = 600
    with pytest.raises(IdentityError) as expired:
        registry.redeem(fresh, key_hash=KEY)
    with pytest.raises(IdentityError) as expired_again:
        registry.redeem(token, key_hash=KEY)
    with pytest.raises(IdentityError) as unknown:
        registry.redeem("x", key_hash=KEY)
    assert [reason(x) for x in (used, expired, expired_again, unknown)] == [
        "token-used",
        "token-expired",
        "token-expired",
        "token-unknown",
    ]


def test_a_token_redeemed_by_many_at_once_goes_to_one_key(
    registry: Registry, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id)
    token = registry.token_create(sensor_id)

    def redeem(number: int) -> bool:
        with contextlib.suppress(IdentityError):
            return bool(registry.redeem(token, key_hash=bytes([number]) * 32))
        return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(redeem, range(32))) == 1


def test_a_token_goes_with_its_entry(registry: Registry, sensor_id: SpiffeId) -> None:
    registry.create(sensor_id)
    token = registry.token_create(sensor_id)
    registry.delete(sensor_id)
    registry.create(sensor_id)
    with pytest.raises(IdentityError) as caught:
        registry.redeem(token, key_hash=KEY)
    assert reason(caught) == "token-unknown"


def test_a_denied_id_gets_no_token_and_cannot_use_one(
    registry: Registry, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id)
    token = registry.token_create(sensor_id)
    registry.deny(sensor_id, reason="stolen")
    with pytest.raises(IdentityError, match="stolen") as redeeming:
        registry.redeem(token, key_hash=KEY)
    with pytest.raises(IdentityError) as creating:
        registry.token_create(sensor_id)
    assert reason(redeeming) == reason(creating) == "denied"
    assert registry.restore(sensor_id)
    assert not registry.restore(sensor_id)
    assert registry.redeem(token, key_hash=KEY) == sensor_id


def test_no_token_is_in_the_file(registry: Registry, sensor_id: SpiffeId) -> None:
    registry.create(sensor_id)
    tokens = [registry.token_create(sensor_id) for _ in range(3)]
    registry.redeem(tokens[0], key_hash=KEY)
    files = registry.path.parent.glob(registry.path.name + "*")
    kept = b"".join(path.read_bytes() for path in files)
    assert not [token for token in tokens if token.encode() in kept]


def test_policy_sees_entries_and_denials(registry: Registry, sensor_id: SpiffeId) -> None:
    uplink = SpiffeId.parse("spiffe://smart-building.cloud/gateway/building-1")
    registry.create(sensor_id)
    registry.create(uplink)
    registry.deny(sensor_id, reason="stolen")
    registry.deny("0abc", reason="key leaked")
    data = registry.policy_data()
    assert data["registry"]["devices"] == {
        str(sensor_id): {
            "role": "sensor",
            "site": "building-1",
            "device": "hvac-001",
            "status": "revoked",
        },
        str(uplink): {
            "role": "uplink",
            "site": "building-1",
            "device": "building-1",
            "status": "active",
        },
    }
    assert data["revocation"]["spiffe_ids"] == {str(sensor_id): "stolen"}
    assert data["revocation"]["serials"] == {"0ABC": "key leaked"}
    assert data["revocation"]["generation"] == registry.counter()
    assert registry.denials().serials == {"0ABC": "key leaked"}


def test_the_counter_rises_with_what_policy_sees_and_with_nothing_else(
    registry: Registry, sensor_id: SpiffeId
) -> None:
    seen = [registry.counter()]

    def changed() -> bool:
        seen.append(registry.counter())
        return seen[-1] > seen[-2]

    registry.create(sensor_id)
    assert changed()
    token = registry.token_create(sensor_id)
    registry.redeem(token, key_hash=KEY)
    assert not changed()
    registry.deny(sensor_id, reason="x")
    assert changed()
    registry.restore(sensor_id)
    assert changed()
    registry.restore(sensor_id)
    assert not changed()
    registry.delete(sensor_id)
    assert changed()


def test_another_process_changes_it_while_it_is_open(
    registry: Registry, sensor_id: SpiffeId
) -> None:
    before = registry.counter()
    script = (
        "import sys, pathlib; from plantroom.certs.registry import Registry;"
        "from plantroom.wire.spiffe import SpiffeId;"
        "r = Registry.open(pathlib.Path(sys.argv[1]));"
        "r.create(SpiffeId.parse(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", script, registry.path, str(sensor_id)], check=True)
    assert registry.counter() > before
    assert registry.show(sensor_id).role == "sensor"


def test_opened_by_many_at_once_it_is_made_once(tmp_path: Path, sensor_id: SpiffeId) -> None:
    def open_it(number: int) -> None:
        with contextlib.closing(Registry.open(tmp_path / "new.db")) as opened:
            opened.create(SpiffeId(sensor_id.trust_domain, f"agent/s-{number}"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(open_it, range(6)))
    with contextlib.closing(Registry.open(tmp_path / "new.db")) as opened:
        assert len(opened.list()) == 6


def test_a_locked_or_foreign_file_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_text("this is no database, and long enough to be read as one")
    with pytest.raises(StorageError):
        Registry.open(tmp_path / "registry.db")


def test_a_failed_write_leaves_nothing_behind(registry: Registry, sensor_id: SpiffeId) -> None:
    registry.create(sensor_id)
    before = registry.counter()

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM entry")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        registry._write(fail)
    assert registry.counter() == before
    assert len(registry.list()) == 1
