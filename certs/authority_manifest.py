"""`authority.json`: which roots an authority has, and how far each has come in its life.

A root is prepared (in the bundle, signs nothing), then active (signs), then old (in the bundle
while anything that it has signed is valid), then retired (gone). There are two at most. The file is
written last in every change, in one step, so a crash leaves the old state or the new one.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from plantroom.certs import atomic
from plantroom.certs.entry import SVID_TTL_S_MAX
from plantroom.wire.errors import IdentityError, StorageCorruptError

MANIFEST = "authority.json"
FILE_BYTES_MAX = 64 * 1024
State = Literal["prepared", "active", "old"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RootRecord:
    """One root; times are seconds since 1970, 0 for not yet.

    `ready_s`: from then on it may sign, because its bundle has had the time to spread. `until_s`:
    nothing that it has signed is valid after this. `hsm`: where its key is, if not in
    a file: `module`, `token`, `label`.
    """

    name: str
    prepared_s: int = 0
    ready_s: int = 0
    activated_s: int = 0
    until_s: int = 0
    hsm: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole file. `requested`: a key whose certificate an upstream CA has yet to sign."""

    trust_domain: str
    active: str
    sequence: int
    roots: tuple[RootRecord, ...]
    requested: RootRecord | None = None

    def root(self, name: str) -> RootRecord:
        """Return the record of this name."""
        return next(root for root in self.roots if root.name == name)

    def state(self, name: str) -> State:
        """Say how far a root has come."""
        if name == self.active:
            return "active"
        return "old" if self.root(name).activated_s else "prepared"

    def in_state(self, state: State) -> RootRecord | None:
        """Return the root in this state, if there is one."""
        return next((root for root in self.roots if self.state(root.name) == state), None)

    def with_root(self, changed: RootRecord) -> "Manifest":
        """Return the manifest with this root changed, or added."""
        others = tuple(root for root in self.roots if root.name != changed.name)
        return replace(self, roots=(*others, changed))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only process that changes this authority."""
    atomic.make_private_folder(folder)
    with atomic.translated(folder):
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, atomic.PRIVATE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # set-up, commands and a running gateway may race
        yield
    finally:
        os.close(handle)


def read(folder: Path, *, now_s: int) -> Manifest | None:
    """Return the manifest, None where there is no authority yet.

    Raises:
        StorageCorruptError: when it is not what it should be.
    """
    data = atomic.read(folder / MANIFEST, bytes_max=FILE_BYTES_MAX)
    if data is None:
        return None
    try:
        table = json.loads(data)
        found = Manifest(
            trust_domain=str(table["trust_domain"]),
            active=str(table["active"]),
            sequence=int(table["sequence"]),
            roots=tuple(_record(entry, now_s) for entry in table["roots"]),
            requested=_record(table["requested"], now_s) if table.get("requested") else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder / MANIFEST, f"{type(error).__name__}: {error}") from error
    if found.active not in {root.name for root in found.roots}:
        raise damaged(folder / MANIFEST, f"{found.active} is not one of its roots")
    return found


def of_domain(folder: Path, trust_domain: str, *, now_s: int) -> Manifest:
    """Return the manifest of this trust domain's authority.

    Raises:
        StorageCorruptError: when there is none.
        IdentityError: with reason `wrong-trust-domain`.
    """
    manifest = read(folder, now_s=now_s)
    if manifest is None:
        raise damaged(folder / MANIFEST, "it is missing")
    if manifest.trust_domain != trust_domain:
        raise IdentityError(
            f"authority is that of {manifest.trust_domain}, not {trust_domain}",
            reason="wrong-trust-domain",
            where=str(folder),
            remedy="use another folder, or the configured trust domain",
        )
    return manifest


def write(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest; when this returns, it is on the disk."""
    data = json.dumps(asdict(manifest), indent=1).encode()
    atomic.write(folder / MANIFEST, data, mode=atomic.PUBLIC)


def damaged(path: Path, what: str) -> StorageCorruptError:
    """Make the error of a file that is not what it should be."""
    return StorageCorruptError(
        f"authority is damaged, {what}",
        where=str(path),
        remedy="restore the folder from a backup; a new root means enrolling everyone again",
    )


def _record(entry: Any, now_s: int) -> RootRecord:
    if isinstance(entry, str):  # as first written: how long its SVIDs live was not kept
        return RootRecord(name=entry, activated_s=1, until_s=now_s + SVID_TTL_S_MAX)
    return RootRecord(
        name=str(entry["name"]),
        prepared_s=int(entry["prepared_s"]),
        ready_s=int(entry.get("ready_s", 0)),
        activated_s=int(entry["activated_s"]),
        until_s=int(entry["until_s"]),
        hsm={str(key): str(value) for key, value in entry.get("hsm", {}).items()},
    )
