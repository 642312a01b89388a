"""A building whose identities come from SPIRE's agents: who needs which, and what is missing.

The registries are kept here all the same: policy goes by them, and `devices revoke` writes there.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from plantroom.certs import workload_ask
from plantroom.certs.registry import Registry
from plantroom.certs.workload_messages import identity_of
from plantroom.certs.workload_stream import owners_of, socket_path
from plantroom.lab import issuers
from plantroom.lab.building import (
    CLOUD_IDS,
    FRONT_ID,
    GATEWAY_ID,
    INGESTION_ID,
    INSPECTOR_ID,
    OPERATOR_ID,
    OTA_ID,
    UPLINK_ID,
    Device,
)
from plantroom.lab.flags import WORKLOAD_API, Flags
from plantroom.lab.layout import Layout
from plantroom.wire.errors import IdentityError, UnreachableError, UsageError
from plantroom.wire.identity import Svid
from plantroom.wire.spiffe import SpiffeId

PEOPLE = (INSPECTOR_ID, OPERATOR_ID)
DISPENSABLE = frozenset({*PEOPLE, OTA_ID})  # readings flow without them
_NAMES_SHOWN_MAX = 5
_SCHEME = re.compile(r"[a-z]+:")


@dataclass(frozen=True, slots=True)
class Sockets:
    """The agents' sockets: of the building's trust domain, and of the cloud's.

    `owner`: the user, beside root and our own, who may listen there.
    """

    building: Path
    cloud: Path
    owner: str = ""

    @property
    def owners(self) -> tuple[int, ...]:
        """Who may listen there, beside root and our own user.

        Raises:
            ConfigError: when there is no such user.
        """
        return owners_of(self.owner)


def sockets_of(flags: Flags) -> Sockets | None:
    """Return the sockets, None where every trust domain has an issuer of its own.

    Raises:
        UsageError: when one is not given.
        ConfigError: when their owner is no user.
    """
    if flags.identity != WORKLOAD_API:
        return None
    for flag, value in (
        ("--building-socket", flags.building_socket),
        ("--cloud-socket", flags.cloud_socket),
    ):
        if value is None:
            raise UsageError(
                f"--identity {WORKLOAD_API} needs {flag}",
                remedy="name the socket of the SPIRE agent of that trust domain",
            )
    owner = flags.socket_owner or ""
    owners_of(owner)  # a wrong name is said at once
    return Sockets(Path(str(flags.building_socket)), Path(str(flags.cloud_socket)), owner)


def path_of(text: str) -> str:
    """Return the absolute path of a socket that is given as a path or as `unix:/path`.

    Raises:
        ConfigError: when the address is of another kind.
    """
    return str(socket_path(text) if _SCHEME.match(text) else Path(text).absolute())


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What a socket does not give; `trouble` says why it gives nothing at all."""

    path: Path
    spiffe_ids: tuple[SpiffeId, ...]
    trouble: str = ""

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.spiffe_ids[:_NAMES_SHOWN_MAX]))
        more = len(self.spiffe_ids) - _NAMES_SHOWN_MAX
        shown += f" and {more} more" if more > 0 else ""
        why = self.trouble or f"agent at {self.path} gives no SVID with this ID to this process"
        return f"{why}: {shown}"


def missing(sockets: Sockets, devices: Iterable[Device]) -> tuple[Missing, ...]:
    """Ask both agents, as this process, and return what is wanted and not given. Blocks.

    Raises:
        IdentityError: when a socket is a link or a stranger's, or what listens there is no agent.
    """
    below = (GATEWAY_ID, *(device.spiffe_id for device in devices))
    above = (FRONT_ID, INGESTION_ID, UPLINK_ID, OTA_ID, *PEOPLE)
    asked = [
        _missing_at(sockets.building, below, sockets.owners),
        _missing_at(sockets.cloud, above, sockets.owners),
    ]
    return tuple(one for one in asked if one.spiffe_ids)


def can_start_without(lacking: Iterable[Missing]) -> bool:
    """Say whether what is missing is people's tools and services that may come later."""
    return all(DISPENSABLE.issuperset(one.spiffe_ids) for one in lacking)


def _missing_at(path: Path, wanted: tuple[SpiffeId, ...], owners: Collection[int]) -> Missing:
    try:
        given = set(workload_ask.svids(path, owners=owners).names)
    except UnreachableError as error:
        return Missing(path=path, spiffe_ids=wanted, trouble=f"{error.what}, {path}")
    lacking = tuple(one for one in wanted if str(one) not in given)
    return Missing(path=path, spiffe_ids=lacking)


def given(path: Path, wanted: SpiffeId | None, *, owners: Collection[int] = ()) -> list[Svid]:
    """Return the SVIDs that the agent at this socket gives us, all or the one of an ID. Blocks.

    Raises:
        UnreachableError: when there is no agent.
        IdentityError: when the wanted one is not given.
    """
    offered = workload_ask.svids(path, owners=owners)
    names = [SpiffeId.parse(name) for name in offered.names] if wanted is None else [wanted]
    try:
        return [identity_of(offered, name)[0] for name in names]
    except IdentityError as error:
        error.where = f"{error.where} at {path}"
        raise


def prepare(layout: Layout, devices: tuple[Device, ...]) -> frozenset[str]:
    """Make the entries that are missing; return the names of the devices that may take part.

    What an operator deletes or revokes later stays deleted and revoked.
    """
    with issuers.cloud(layout).registry() as registry:
        if not layout.config("cloud").exists():
            _register(registry, (*CLOUD_IDS, UPLINK_ID, *PEOPLE))
    with issuers.building(layout).registry() as registry:
        if not layout.config("gateway").exists():
            _register(registry, (GATEWAY_ID, *PEOPLE))
        fresh = [one for one in devices if not layout.device_config(one.name).exists()]
        _register(registry, [device.spiffe_id for device in fresh])
        return frozenset(one.name for one in devices if _is_admitted(registry, one.spiffe_id))


def _register(registry: Registry, spiffe_ids: Iterable[SpiffeId]) -> None:
    for spiffe_id in spiffe_ids:
        registry.create(spiffe_id)


def _is_admitted(registry: Registry, spiffe_id: SpiffeId) -> bool:
    try:
        registry.admitted(spiffe_id)
    except IdentityError:
        return False
    return True
