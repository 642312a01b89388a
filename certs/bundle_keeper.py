"""The bundles of other trust domains as a process has them: given, told, fetched or set.

What was given at set-up (a file) and what the registry's file keeps, whichever is newer. Every
change reaches the process's identity sources at once.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from plantroom.certs import bundle
from plantroom.certs.registry_trust import TrustStore
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, TrustBundle

LOG = logging.getLogger("plantroom.certs.bundle_keeper")
Trusts = Callable[[TrustBundle], object]


class BundleKeeper:
    """Holds foreign bundles; called from one thread."""

    def __init__(self, store: TrustStore, given: Mapping[str, TrustBundle], *, own: str) -> None:
        self._store = store
        self._own = own
        self._bundles = {name: part for name, part in given.items() if name != own}
        self._trusts: Sequence[Trusts] = ()
        self._hears: Callable[[TrustBundle], object] = lambda _: None
        self.refresh()

    def tell(self, *trusts: Trusts) -> None:
        """Say who hears of every bundle that changes: `EmbeddedSource.trust` and its like."""
        self._trusts = trusts
        for part in self._bundles.values():
            for trust in trusts:
                trust(part)

    def on_news(self, hears: Callable[[TrustBundle], object]) -> None:
        """Say who hears of changes from now on, besides."""
        self._hears = hears

    def all(self) -> dict[str, TrustBundle]:
        """Return them, by trust domain."""
        return dict(self._bundles)

    def on_top_of(self, identity: Identity) -> Identity:
        """Return an identity that came from elsewhere with our bundles where they are newer."""
        newer = {
            name: part
            for name, part in self._bundles.items()
            if name in identity.bundles and part.sequence > identity.bundles[name].sequence
        }
        return replace(identity, bundles={**identity.bundles, **newer}) if newer else identity

    def adopt(self, told: TrustBundle) -> bool:
        """Keep and trust a newer bundle; False when it is known already.

        Raises:
            IdentityError: with reason `bundle-sequence`, `bad-bundle` or `own-bundle`.
            StorageError: when it cannot be kept; then it is not trusted either.
        """
        if told.trust_domain == self._own:
            raise IdentityError(
                "nobody else says which roots are ours", reason="own-bundle", where=self._own
            )
        changes = bundle.replaces(self._bundles.get(told.trust_domain), told)
        self._store.adopt_bundle(told)  # also what was given before: commands look there
        if not changes:
            return False
        self._take(told)
        LOG.info(
            "bundle of %s is now sequence %d with %d roots",
            told.trust_domain,
            told.sequence,
            len(told.roots_der),
        )
        return True

    def refresh(self) -> None:
        """Take in what a command has kept."""
        for name, kept in self._store.bundles().items():
            if name != self._own and kept != self._bundles.get(name):
                self._take(kept)

    def _take(self, told: TrustBundle) -> None:
        self._bundles[told.trust_domain] = told
        for trust in self._trusts:
            trust(told)
        self._hears(told)
