"""Which devices a gateway may speak for: those of its own site's trust domain."""

from functools import lru_cache

from plantroom.wire.errors import SpiffeIdError
from plantroom.wire.spiffe import SpiffeId


@lru_cache(maxsize=50_000)
def belongs_by_name(spiffe_id: str, site: str) -> bool:
    """Say whether a device's trust domain is that of the site, by the first label."""
    try:
        return SpiffeId.parse(spiffe_id).site == site
    except SpiffeIdError:
        return False
