"""What a SPIFFE ID is for: one function from its path to a role, and to the site it acts in."""

from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import CLOUD_SITE, GATEWAY

CLOUD_TRUST_DOMAIN = "smart-building.cloud"
SENSOR, GATEWAY_ROLE, UPLINK = "sensor", "gateway", "uplink"
OPERATOR, INSPECTOR = "operator", "inspector"
SERVICES = ("ingestion", "analytics", "dashboard", "ota", "devices", "front")
ROLES = (SENSOR, GATEWAY_ROLE, UPLINK, *SERVICES, OPERATOR, INSPECTOR)
UNKNOWN = "unknown"


def role_of(spiffe_id: SpiffeId, *, cloud_trust_domain: str = CLOUD_TRUST_DOMAIN) -> str:
    """Return the role that the path says, `unknown` (which policy denies) if it says none.

    Only the cloud's trust domain has services, uplinks, operators and inspectors: a building that
    names a sensor `agent/ingestion` has a sensor of that name.
    """
    first, _, rest = spiffe_id.path.partition("/")
    if not rest or "/" in rest:
        return UNKNOWN
    if spiffe_id.trust_domain != cloud_trust_domain:
        if first != "agent":
            return UNKNOWN
        return GATEWAY_ROLE if rest == GATEWAY else SENSOR
    if first == "agent":
        return rest if rest in SERVICES else UNKNOWN
    return {"gateway": UPLINK, "operator": OPERATOR, "inspector": INSPECTOR}.get(first, UNKNOWN)


def site_of(spiffe_id: SpiffeId, *, cloud_trust_domain: str = CLOUD_TRUST_DOMAIN) -> str:
    """Return the site whose topics this ID uses: its building's, `cloud` for cloud services."""
    if spiffe_id.trust_domain != cloud_trust_domain:
        return spiffe_id.trust_domain.partition(".")[0]
    if role_of(spiffe_id, cloud_trust_domain=cloud_trust_domain) == UPLINK:
        return spiffe_id.name
    return CLOUD_SITE
