"""Who calls the Workload API, as SPIRE's `unix` attestor says it: selectors of a local process.

User and group come from the kernel (SO_PEERCRED). The program is that of the calling process,
read while a descriptor of that process says that it still lives, so that a process that ends and
another one that gets its number are not taken for one another.
"""

import contextlib
import grp
import hashlib
import os
import pwd
from collections.abc import Collection, Iterator
from pathlib import Path

from plantroom.wire.unix_socket import Peer

HASHED_BYTES_MAX = 512 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_PROCESSES = Path("/proc")


def selectors_of(peer: Peer, *, hashed: bool = False) -> frozenset[str]:
    """Return what is known of the caller; nothing once the process that connected has ended.

    `hashed` adds `unix:sha256`, which reads the whole program. A process that this namespace
    cannot see (another container's) has user and group only. Blocks: files, and the user database.
    """
    found = set(_of_credentials(peer))
    if peer.pid <= 0:
        return frozenset(found)
    found |= set(_of_program(peer.pid, hashed=hashed))
    return frozenset(found) if peer.is_alive else frozenset()


def wants_hash(selectors: Collection[str]) -> bool:
    """Say whether any of these asks for a program's digest."""
    return any(one.startswith("unix:sha256:") for one in selectors)


def matches(entry_selectors: Collection[str], found: frozenset[str]) -> bool:
    """Say whether a caller may have an entry: it has each of its selectors, and there is one."""
    return bool(entry_selectors) and found.issuperset(entry_selectors)


def _of_credentials(peer: Peer) -> Iterator[str]:
    yield f"unix:uid:{peer.uid}"
    yield f"unix:gid:{peer.gid}"
    with contextlib.suppress(KeyError):  # a number may have no name
        yield f"unix:user:{pwd.getpwuid(peer.uid).pw_name}"
    with contextlib.suppress(KeyError):
        yield f"unix:group:{grp.getgrgid(peer.gid).gr_name}"


def _of_program(pid: int, *, hashed: bool) -> Iterator[str]:
    program = _PROCESSES / str(pid) / "exe"
    try:
        yield f"unix:path:{program.readlink()}"  # `… (deleted)` once it has been replaced
        if hashed:
            yield f"unix:sha256:{_digest(program)}"
    except OSError:
        return  # another user's, and we are not root; or it has just ended


def _digest(program: Path) -> str:
    digest, left = hashlib.sha256(), HASHED_BYTES_MAX
    with program.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > HASHED_BYTES_MAX:
            return "too-large"
        while left > 0 and (chunk := file.read(_CHUNK_BYTES)):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
