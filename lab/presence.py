"""Who is online, as the gateway's board says."""

from plantroom.lab import ask
from plantroom.wire.errors import UnreachableError


def online_devices(gateway_http: int) -> set[str]:
    """Return the names of the devices that are online; none while the gateway does not answer."""
    try:
        latest = ask.get_json(gateway_http, "/api/latest")
    except UnreachableError:
        return set()
    return {str(one["device"]) for one in latest["devices"] if one["online"]}
