"""The two issuers of a state folder, building and cloud, as set-up and the commands open them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from plantroom.certs import workload_ask
from plantroom.certs.attest_store import AttestStore
from plantroom.certs.authority import Authority
from plantroom.certs.authority_rotation import Rotation
from plantroom.certs.registry import Registry
from plantroom.certs.registry_trust import TrustStore
from plantroom.certs.roles import CLOUD_TRUST_DOMAIN
from plantroom.certs.workload_stream import owners_of
from plantroom.lab import flags
from plantroom.lab.building import TRUST_DOMAIN
from plantroom.lab.flags import WORKLOAD_API
from plantroom.lab.layout import Layout
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import IdentityError, UnreachableError, UsageError
from plantroom.wire.identity import TrustBundle


@dataclass(frozen=True, slots=True)
class Issuer:
    """Where one trust domain's issuer keeps its root and its registry.

    `agent`: the socket of the SPIRE agent that gives this trust domain's identities instead, which
    one of `owners` may own; then there is no root here.
    """

    trust_domain: str
    folder: Path
    agent: Path | None = None
    owners: tuple[int, ...] = ()

    @property
    def registry_file(self) -> Path:
        """The registry's file."""
        return self.folder / "registry.db"

    def authority(self) -> Authority:
        """Open the root, making it if there is none.

        Raises:
            UsageError: when somebody else is the issuer.
        """
        self._check_ours()
        return Authority.open(self.folder / "authority", self.trust_domain, clock=SystemClock())

    def _check_ours(self) -> None:
        if self.agent is not None:
            raise UsageError(
                "SPIRE is the issuer of this trust domain, there is no root of ours",
                where=self.trust_domain,
                remedy="ask its server: spire-server bundle show, entry create, token generate",
            )

    def bundle(self) -> TrustBundle:
        """Return this trust domain's own bundle.

        Raises:
            UnreachableError: when the agent that has it does not answer.
            IdentityError: when the agent has no entry for whoever asks.
        """
        if self.agent is None:
            return self.authority().bundle()
        found = workload_ask.bundles(self.agent, owners=self.owners).get(self.trust_domain)
        if found is None:
            raise IdentityError(
                "the agent tells no bundle to this user",
                reason="no-bundle",
                where=str(self.agent),
                remedy="ask as the user that has entries",
            )
        return found

    def rotation(self) -> Rotation:
        """Return the steps that change the root, of an authority that is there.

        Raises:
            UsageError: when somebody else is the issuer.
        """
        self._check_ours()
        return Rotation(self.folder / "authority", self.trust_domain, clock=SystemClock())

    @contextmanager
    def registry(self) -> Iterator[Registry]:
        """Open the registry, making it if there is none."""
        registry = Registry.open(self.registry_file, cloud_trust_domain=CLOUD_TRUST_DOMAIN)
        try:
            yield registry
        finally:
            registry.close()

    @contextmanager
    def attest_store(self) -> Iterator[AttestStore]:
        """Open what attestation keeps: known chips, golden registers, who waits."""
        store = AttestStore(self.registry_file)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def trust(self) -> Iterator[TrustStore]:
        """Open what is kept of other trust domains."""
        store = TrustStore(self.registry_file)
        try:
            yield store
        finally:
            store.close()


def building(layout: Layout) -> Issuer:
    """Return the building's issuer."""
    return Issuer(TRUST_DOMAIN, layout.gateway)


def cloud(layout: Layout) -> Issuer:
    """Return the cloud's issuer."""
    return Issuer(CLOUD_TRUST_DOMAIN, layout.cloud)


def responsible(layout: Layout, trust_domain: str) -> Issuer:
    """Return the existing issuer of this trust domain.

    Raises:
        UsageError: when this state folder has no such trust domain.
        UnreachableError: when nothing was ever set up here.
    """
    known = {issuer.trust_domain: issuer for issuer in (building(layout), cloud(layout))}
    issuer = known.get(trust_domain)
    if issuer is None:
        raise UsageError(
            "no issuer here for this trust domain",
            where=trust_domain,
            remedy=f"known here: {', '.join(known)}",
        )
    kept = flags.load(layout.building)
    if kept.identity != WORKLOAD_API:
        return existing(issuer)
    agent = kept.building_socket if trust_domain == TRUST_DOMAIN else kept.cloud_socket
    owners = owners_of(kept.socket_owner or "")
    return replace(existing(issuer), agent=Path(str(agent)), owners=owners)


def existing(issuer: Issuer) -> Issuer:
    """Return the issuer if it has been set up.

    Raises:
        UnreachableError: when it has not.
    """
    if not issuer.registry_file.exists():
        raise UnreachableError(
            "no building was set up here",
            where=str(issuer.folder),
            remedy="start one with `plantroom up`, or give its folder with --state",
        )
    return issuer
