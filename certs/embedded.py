"""An identity from this process's own issuer: gateway in the building, cloud for itself.

Needs nobody else, so SVIDs are renewed through an outage of any length.
"""

import asyncio
import logging
from collections.abc import Mapping

from plantroom.certs import certificates, own_svid
from plantroom.certs.authority import Authority
from plantroom.certs.bundle import newer
from plantroom.certs.holder import IdentityHolder
from plantroom.certs.renewal import Schedule
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.errors import PlantroomError
from plantroom.wire.identity import Identity, Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

LOG = logging.getLogger("plantroom.certs.embedded")
CHECK_S = 1.0  # a wall clock that is stepped, and a root that is rotated, is noticed within this


def issue_svid(
    authority: Authority,
    spiffe_id: SpiffeId,
    *,
    ttl_s: int,
    dns: tuple[str, ...] = (),
    ips: tuple[str, ...] = (),
) -> Svid:
    """Make a key here and let the authority sign it."""
    key = certificates.new_key()
    chain = authority.issue(spiffe_id, key.public_key(), ttl_s=ttl_s, dns=dns, ips=ips)
    return own_svid.read_svid(chain, certificates.key_pem(key))


class EmbeddedSource(IdentityHolder):
    """Issues its SVID itself and renews it at half life while `run` runs."""

    def __init__(  # noqa: PLR0913 -- what an SVID says is given by keyword
        self,
        authority: Authority,
        spiffe_id: SpiffeId,
        *,
        ttl_s: int = 3600,
        dns: tuple[str, ...] = (),
        ips: tuple[str, ...] = (),
        bundles: Mapping[str, TrustBundle] | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self._authority = authority
        self._spiffe_id = spiffe_id
        self._ttl_s = ttl_s
        self._dns, self._ips = dns, ips
        self._clock = clock or SystemClock()
        self._foreign = dict(bundles or {})
        self._foreign.pop(authority.trust_domain, None)
        self.schedule = Schedule()
        self._generation = authority.generation
        self._trouble = ""
        self.renew()

    def renew(self) -> Identity:
        """Issue a new SVID now and publish it."""
        svid = issue_svid(
            self._authority, self._spiffe_id, ttl_s=self._ttl_s, dns=self._dns, ips=self._ips
        )
        self.schedule.renewed(svid.not_before_s, svid.not_after_s)
        self._generation = self._authority.generation
        return self.publish(svid, self._bundles())

    def renewals(self) -> Schedule:
        """Say when it renews next, and how that goes."""
        return self.schedule

    def set_bundle(self, bundle: TrustBundle) -> bool:
        """Trust another domain by this bundle; False if it is older than the one that is known."""
        known = self._foreign.get(bundle.trust_domain)
        if bundle.trust_domain == self._authority.trust_domain or not newer(known, bundle):
            return False
        self.trust(bundle)
        return True

    def trust(self, bundle: TrustBundle) -> None:
        """Trust another domain by this bundle, whatever was known of it before."""
        if bundle.trust_domain == self._authority.trust_domain:
            return
        if bundle != self._foreign.get(bundle.trust_domain):
            self._foreign[bundle.trust_domain] = bundle
            self.publish(self.current().svid, self._bundles())

    async def run(self) -> None:
        """Renew for ever, also after every change of a root; a failure is retried, and logged."""
        while True:
            now_s = self._clock.wall_us() / 1e6
            if self.schedule.due(now_s) or self._roots_changed():
                self._renew_or_note(now_s)
            wait_s = self.schedule.due_s - self._clock.wall_us() / 1e6
            await asyncio.sleep(min(CHECK_S, max(0.05, wait_s)))

    def _renew_or_note(self, now_s: float) -> None:
        try:
            identity = self.renew()
        except PlantroomError as error:
            self.schedule.failed(now_s, error)
            LOG.warning("renewal failed id=%s: %s", self._spiffe_id, error)
        else:
            LOG.info("renewed id=%s serial=%s", self._spiffe_id, identity.svid.serial)

    def _roots_changed(self) -> bool:
        try:
            self._authority.refresh()
        except PlantroomError as error:
            if str(error) != self._trouble:
                LOG.error("roots stay as they were: %s", error)  # noqa: TRY400 -- one line
            self._trouble = str(error)
            return False
        self._trouble = ""
        return self._authority.generation != self._generation and not self.schedule.failures

    def _bundles(self) -> dict[str, TrustBundle]:
        return {**self._foreign, self._authority.trust_domain: self._authority.bundle()}
