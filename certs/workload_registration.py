"""Registration where SPIRE is the issuer: its entry is the registration, ours only follows.

Whoever proves an ID of the building's own trust domain has been registered with the issuer of that
domain; when it is seen for the first time it gets an entry here, with the role that its path says,
so that policy knows it and it can be listed and revoked. IDs of other trust domains need an entry
that an operator makes. See docs/adr.
"""

import logging
from collections.abc import Callable
from typing import Any

from plantroom.certs.registry import Registry
from plantroom.certs.roles import UNKNOWN, role_of
from plantroom.wire.errors import PlantroomError
from plantroom.wire.identity import Principal
from plantroom.wire.spiffe import SpiffeId

LOG = logging.getLogger("plantroom.certs.workload")
PARENT = "workload-api"

Admit = Callable[[Any], Principal]


def registering(
    admit: Admit, registry: Registry, *, trust_domain: str, cloud_trust_domain: str
) -> Admit:
    """Return `admit`, which then also makes the entry of whoever is new."""
    known: set[SpiffeId] = {entry.spiffe_id for entry in registry.list()}

    def check(connection: Any) -> Principal:
        principal = admit(connection)
        spiffe_id = principal.spiffe_id
        if spiffe_id.trust_domain == trust_domain and spiffe_id not in known:
            role = role_of(spiffe_id, cloud_trust_domain=cloud_trust_domain)
            if role == UNKNOWN or _registered(registry, spiffe_id):
                known.add(spiffe_id)
        return principal

    return check


def _registered(registry: Registry, spiffe_id: SpiffeId) -> bool:
    """Make the entry; while it cannot be made, policy does not know the ID and denies."""
    try:
        registry.create(spiffe_id, parent=PARENT)
    except PlantroomError as error:
        LOG.error("cannot register id=%s: %s", spiffe_id, error)  # noqa: TRY400 -- one line
        return False
    LOG.info("registered id=%s, which the issuer of its trust domain vouches for", spiffe_id)
    return True
