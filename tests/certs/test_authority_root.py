"""The files of one root: what is shown, what is trusted, which key signs."""

from pathlib import Path

import pytest

from plantroom.certs import atomic, authority_root, certificates
from plantroom.certs.authority_manifest import RootRecord
from plantroom.wire.errors import StorageCorruptError

NOW_S = 1_800_000_000


def write(folder: Path) -> RootRecord:
    key = certificates.new_key()
    made = certificates.self_signed("a.b", key, now_s=NOW_S)
    atomic.write(folder / "root-1.pem", authority_root.pem((made,)))
    atomic.write(folder / "root-1.key", certificates.key_pem(key))
    return RootRecord(name="root-1")


def test_a_self_signed_root_is_its_own_anchor_and_shows_nothing(tmp_path: Path) -> None:
    record = write(tmp_path)
    root = authority_root.load(tmp_path, "root-1", crossed=False)
    assert root.anchor == root.certificate
    assert root.shown == ()
    assert not root.is_upstream
    assert root.not_after_s == NOW_S + certificates.ROOT_TTL_S
    key = authority_root.load_key(tmp_path, record, root)
    assert key.public_key() == root.certificate.public_key()


def test_its_cross_certificate_is_shown_while_the_root_before_it_is_trusted(tmp_path: Path) -> None:
    write(tmp_path)
    root = authority_root.load(tmp_path, "root-1", crossed=False)
    before = certificates.new_key()
    issuer = certificates.self_signed("a.b", before, now_s=NOW_S)
    cross = certificates.crossed(root.certificate, issuer=issuer, key=before, now_s=NOW_S)
    atomic.write(tmp_path / "root-1.cross.pem", authority_root.pem((cross,)))
    assert authority_root.load(tmp_path, "root-1", crossed=True).shown == (cross,)
    assert authority_root.load(tmp_path, "root-1", crossed=False).shown == ()
    cross.verify_directly_issued_by(issuer)
    assert cross.subject == root.certificate.subject
    assert cross.public_key() == root.certificate.public_key()


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(StorageCorruptError, match="missing"):
        authority_root.load(tmp_path, "root-1", crossed=False)
