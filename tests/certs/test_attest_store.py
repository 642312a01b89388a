from collections.abc import Iterator
from typing import Any

import pytest

from plantroom.certs import attest_store
from plantroom.certs.attest_store import EK, KEY, AttestStore
from plantroom.certs.registry import Registry
from plantroom.wire.errors import IdentityError, UsageError
from plantroom.wire.spiffe import SpiffeId

A, B = "a" * 64, "b" * 64


@pytest.fixture
def store(registry: Registry, clock: Any) -> Iterator[AttestStore]:
    opened = AttestStore(registry.path, clock=clock)
    yield opened
    opened.close()


def test_a_fingerprint_is_read_as_people_write_it() -> None:
    assert attest_store.fingerprint_of(f"{A[:32].upper()} {A[32:40]}:{A[40:]}\n") == A
    for text in ("", "a" * 63, "g" * 64, "a" * 65):
        with pytest.raises(UsageError, match="not a fingerprint"):
            attest_store.fingerprint_of(text)


def test_who_waits_is_remembered_once_and_up_to_a_limit(
    store: AttestStore, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attest_store, "WAITING_MAX", 2)
    for number, fingerprint in enumerate((A, B, A, "c" * 64)):
        clock.offset_s = number
        store.wait(fingerprint, KEY, claim=f"claim {number}" + "x" * 1000, peer="p")
    waiting = store.waiting()
    assert [one.fingerprint for one in waiting] == ["c" * 64, A]
    assert waiting[1].claim.startswith("claim 2x")
    assert len(waiting[1].claim) == 300
    assert waiting[1].last_us > waiting[1].since_us


def test_an_admission_is_for_one_key_and_for_a_week(
    store: AttestStore, sensor_id: SpiffeId, clock: Any
) -> None:
    store.wait(A, KEY, claim="", peer="p")
    store.wait(B, EK, claim="", peer="p")
    store.admit(A, sensor_id)
    assert (store.admitted(A), store.admitted(B)) == (sensor_id, None)
    assert [one.fingerprint for one in store.waiting()] == [B]
    clock.offset_s = attest_store.ADMITTED_S + 1
    assert store.admitted(A) is None


def test_the_list_of_chips(store: AttestStore) -> None:
    assert not store.ek_allowed(A)
    store.ek_allow(A, note="bench")
    assert store.ek_allowed(A)
    assert [(one[0], one[1]) for one in store.eks()] == [(A, "bench")]
    assert store.ek_forget(A)
    assert not store.ek_forget(A)


def test_the_first_registers_are_recorded_and_others_need_an_operator(
    store: AttestStore, sensor_id: SpiffeId
) -> None:
    good, other = {0: b"\1" * 32, 7: b"\2" * 32}, {0: b"\1" * 32, 7: b"\3" * 32}
    with pytest.raises(IdentityError) as nothing:
        store.accept_quoted(sensor_id)
    assert nothing.value.reason == "no-quote"
    store.check_pcrs(sensor_id, None, good)
    with pytest.raises(IdentityError, match="golden accept") as caught:
        store.check_pcrs(sensor_id, None, other)
    assert caught.value.reason == "pcr-policy"
    accepted = store.accept_quoted(sensor_id)
    assert (accepted.name, accepted.pcrs) == (str(sensor_id), other)
    store.check_pcrs(sensor_id, None, other)
    store.check_pcrs(sensor_id, None, good)
    assert {one.digest for one in store.goldens()} == {
        attest_store.digest_of(good),
        attest_store.digest_of(other),
    }
    assert store.golden_delete(str(sensor_id), attest_store.digest_of(good)) == 1
    with pytest.raises(IdentityError):
        store.check_pcrs(sensor_id, None, good)
    assert store.golden_delete(str(sensor_id)) == 1


def test_a_named_set_that_is_empty_lets_nobody_in(store: AttestStore, sensor_id: SpiffeId) -> None:
    with pytest.raises(IdentityError) as caught:
        store.check_pcrs(sensor_id, "model-3", {0: b""})
    assert caught.value.reason == "pcr-unknown"
    assert store.goldens() == ()


def test_entries_are_found_by_the_whole_selector(
    store: AttestStore, registry: Registry, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id, selectors=("unix:uid:0", f"tpm:pub_hash:{A}"))
    assert store.ids_of_ek(A) == (sensor_id,)
    assert store.ids_of_ek(B) == store.ids_of_ek(A[:-1]) == store.ids_of_ek("") == ()
