"""The devices of a state folder: who is registered, who is revoked, who is online."""

from typing import Any

from plantroom.certs.entry import Entry
from plantroom.certs.roles import GATEWAY_ROLE, SENSOR
from plantroom.lab import ask, issuers, running
from plantroom.lab.layout import Layout
from plantroom.wire.errors import UnreachableError
from plantroom.wire.rfc3339 import format_us
from plantroom.wire.spiffe import SpiffeId

_FLEET_ROLES = (SENSOR, GATEWAY_ROLE)


def devices(layout: Layout) -> list[dict[str, Any]]:
    """Return every registered device with its state; `online` is None when nothing runs."""
    issuer = issuers.existing(issuers.building(layout))
    online = _online(layout)
    with issuer.registry() as registry:
        denials = registry.denials().spiffe_ids
        return [
            {
                "device": entry.spiffe_id.name,
                "spiffe_id": str(entry.spiffe_id),
                "role": entry.role,
                "status": "revoked" if str(entry.spiffe_id) in denials else "active",
                "reason": denials.get(str(entry.spiffe_id)),
                "online": None if online is None else online.get(entry.spiffe_id.name, False),
                "svid": _svid(registry.last_issued(entry.spiffe_id)),
            }
            for entry in registry.list()
            if _is_of_fleet(entry, issuer.trust_domain)
        ]


def _is_of_fleet(entry: Entry, trust_domain: str) -> bool:
    return entry.role in _FLEET_ROLES and entry.spiffe_id.trust_domain == trust_domain


def _svid(issued: Any) -> dict[str, Any] | None:
    if issued is None:
        return None
    return {"serial": issued.serial, "not_after": format_us(issued.not_after_s * 1_000_000)}


def _online(layout: Layout) -> dict[str, bool] | None:
    found = running.find(layout)
    return None if found is None else online(found.ports.gateway_http)


def online(gateway_http: int) -> dict[str, bool] | None:
    """Return who is online, as the gateway's board says; None while it does not answer."""
    try:
        latest = ask.get_json(gateway_http, "/api/latest")
    except UnreachableError:
        return None
    return {str(one["device"]): bool(one["online"]) for one in latest["devices"]}


def revoke(layout: Layout, device: SpiffeId, *, reason: str) -> None:
    """Revoke a device: no renewal, and its connections are cut by the running gateway."""
    with issuers.responsible(layout, device.trust_domain).registry() as registry:
        registry.show(device)
        registry.deny(device, reason=reason)


def restore(layout: Layout, device: SpiffeId) -> bool:
    """Undo `revoke`; False if it was not revoked."""
    with issuers.responsible(layout, device.trust_domain).registry() as registry:
        return registry.restore(device)
