import dataclasses
import datetime as dt
import threading
from pathlib import Path

import pytest

from plantroom.certs import bundle
from plantroom.device.identity import HEARD_S, IdentityKeeper, PemFiles
from plantroom.wire.errors import IdentityError, UnreachableError
from plantroom.wire.identity import Identity
from tests.device.stand_ins import FakeClock
from tests.fakes.issuer import BUILDING, Issuer
from tests.fakes.waiting import until

HVAC = f"spiffe://{BUILDING}/agent/hvac-001"


class Source:
    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.is_due = True
        self.fails = False
        self.renewals = 0

    def current(self) -> Identity:
        if not self.renewals:
            raise IdentityError("not enrolled yet", reason="no-svid")
        return self.issuer.identity("agent/hvac-001", revision=self.renewals)

    def due(self, _now_s: float) -> bool:
        return self.is_due

    def renew(self) -> Identity:
        if self.fails:
            raise UnreachableError("issuer is away")
        self.renewals += 1
        return self.current()


@pytest.fixture
def source() -> Source:
    return Source(Issuer(BUILDING))


def keeper(source: Source, clock: FakeClock, said: list[str]) -> IdentityKeeper:
    return IdentityKeeper(
        source, clock=clock, refresh_s=3600, say=said.append, inform=lambda _text: None
    )


def test_identity_is_got_when_due_and_told(source: Source) -> None:
    one, told = keeper(source, FakeClock(), []), threading.Event()
    one.watch(told.set)
    assert one.current is None
    one.step()
    assert one.current is not None
    assert one.current.revision == 1
    assert told.is_set()


def test_a_newer_bundle_that_is_published_is_asked_for_soon(source: Source) -> None:
    clock, said = FakeClock(), list[str]()
    one = keeper(source, clock, said)
    one.step()
    source.is_due = False
    known = source.issuer.bundle()
    for told in (known, dataclasses.replace(known, sequence=known.sequence + 1)):
        one.heard(BUILDING, bundle.to_json(told))
        clock.pass_s(HEARD_S + 1)
        one.step()
    assert source.renewals == 2  # once for the newer one
    one.heard("elsewhere.local", bundle.to_json(known))
    one.heard(BUILDING, b"{")
    clock.pass_s(HEARD_S + 1)
    one.step()
    assert source.renewals == 2
    assert len(said) == 1


def test_failure_is_said_once_and_the_old_identity_stays(source: Source) -> None:
    said: list[str] = []
    one = keeper(source, FakeClock(), said)
    one.step()
    source.fails = True
    one.step()
    one.step()
    assert said == ["identity: issuer is away"]
    assert one.current is not None
    assert one.current.revision == 1
    source.fails = False
    one.step()
    assert one.current.revision == 2


def test_bundles_are_refreshed_also_when_the_svid_is_fresh(source: Source) -> None:
    clock = FakeClock()
    one = keeper(source, clock, [])
    one.step()
    source.is_due = False
    clock.pass_s(3599)
    one.step()
    assert source.renewals == 1
    clock.pass_s(2)
    one.step()
    assert source.renewals == 2


def test_thread_renews_and_ends_when_asked(source: Source) -> None:
    one = keeper(source, FakeClock(), [])
    thread = threading.Thread(target=one.run)
    thread.start()
    until(lambda: one.current, deadline_s=60)
    one.stop()
    thread.join(60)
    assert not thread.is_alive()


def write(folder: Path, issuer: Issuer) -> PemFiles:
    import ssl

    svid = issuer.svid(HVAC)
    (folder / "chain.pem").write_bytes(svid.chain_pem)
    (folder / "key.pem").write_bytes(svid.key_pem)
    roots = "".join(ssl.DER_cert_to_PEM_cert(root) for root in issuer.bundle().roots_der)
    (folder / "bundle.pem").write_text(roots)
    return PemFiles(
        chain=folder / "chain.pem",
        key=folder / "key.pem",
        bundle_file=folder / "bundle.pem",
        trust_domain=BUILDING,
    )


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    issuer = Issuer(BUILDING)
    files = write(tmp_path, issuer)
    first = files.current()
    assert str(first.svid.spiffe_id) == HVAC
    assert first.bundles[BUILDING].roots_der == issuer.bundle().roots_der
    assert not files.due(0)
    newer = issuer.svid(HVAC, ends=dt.timedelta(hours=2))
    for name, data in (("chain.pem", newer.chain_pem), ("key.pem", newer.key_pem)):
        (tmp_path / "new").write_bytes(data)
        (tmp_path / "new").rename(tmp_path / name)
    assert files.due(0)
    assert files.renew().revision == 2
    assert files.current().svid.not_after_s > first.svid.not_after_s


def test_key_that_is_not_the_chains_and_missing_files_are_named(tmp_path: Path) -> None:
    issuer = Issuer(BUILDING)
    files = write(tmp_path, issuer)
    (tmp_path / "key.pem").write_bytes(issuer.svid(HVAC).key_pem)
    with pytest.raises(IdentityError, match=r"key\.pem"):
        files.current()
    (tmp_path / "chain.pem").unlink()
    with pytest.raises(IdentityError, match=r"chain\.pem"):
        files.current()
    assert files.due(0)
