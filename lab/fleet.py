"""The devices of a state folder: who is registered, who is revoked, who is online."""

from typing import Any

from plantroom.certs.entry import Entry
from plantroom.certs.roles import CLOUD_TRUST_DOMAIN, GATEWAY_ROLE, SENSOR
from plantroom.lab import ask, issuers, running
from plantroom.lab.layout import Layout
from plantroom.wire.errors import UnreachableError, UsageError
from plantroom.wire.rfc3339 import format_us
from plantroom.wire.spiffe import SpiffeId

_FLEET_ROLES = (SENSOR, GATEWAY_ROLE)


def devices(layout: Layout) -> list[dict[str, Any]]:
    """Return every registered device with its state; `online` is None when nothing runs."""
    issuer = issuers.existing(issuers.building(layout))
    online = _online(layout)
    with issuer.registry() as registry, issuer.trust() as trust:
        denied = trust.denied(issuer.trust_domain)
        return [
            {
                "device": entry.spiffe_id.name,
                "spiffe_id": str(entry.spiffe_id),
                "role": entry.role,
                "status": "revoked" if str(entry.spiffe_id) in denied else "active",
                "reason": "; ".join(denied.get(str(entry.spiffe_id), {}).values()) or None,
                "revoked_by": sorted(denied.get(str(entry.spiffe_id), {})),
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


def revoke(
    layout: Layout, device: SpiffeId, *, reason: str, serial: str | None, issuer: str | None
) -> None:
    """Revoke a device, or one SVID of its: no renewal, and its connections are cut by who runs.

    `issuer`: the trust domain that says so; else the device's own.

    Raises:
        IdentityError: with reason `no-entry` when there is no such device.
        UsageError: when this issuer has no say over it.
    """
    with issuers.responsible(layout, device.trust_domain).registry() as registry:
        registry.show(device)
    for book in _books(layout, _judge(layout, device, issuer)):
        with book.registry() as registry:
            registry.deny(device if serial is None else serial, reason=reason)


def restore(
    layout: Layout, device: SpiffeId, *, serial: str | None, issuer: str | None
) -> tuple[bool, tuple[str, ...]]:
    """Undo `revoke`: whether it was revoked there, and who else still denies the device."""
    judge = _judge(layout, device, issuer)
    undone = False
    for book in _books(layout, judge):
        with book.registry() as registry:
            undone |= registry.restore(device if serial is None else serial)
    own = issuers.responsible(layout, device.trust_domain)
    with own.trust() as trust:
        others = set(trust.denied(own.trust_domain).get(str(device), {}))
    return undone, tuple(sorted(others - {judge.trust_domain}))  # who has yet to hear of it


def _books(layout: Layout, judge: issuers.Issuer) -> tuple[issuers.Issuer, ...]:
    """Return where a judge's word is written down: lists cross the bridge, but not with SPIRE."""
    if judge.agent is not None and judge.trust_domain == CLOUD_TRUST_DOMAIN:
        return judge, issuers.building(layout)
    return (judge,)


def _judge(layout: Layout, device: SpiffeId, issuer: str | None) -> issuers.Issuer:
    judge = issuers.responsible(layout, issuer or device.trust_domain)
    if judge.trust_domain not in {device.trust_domain, CLOUD_TRUST_DOMAIN}:
        raise UsageError(
            "a building has no say over the cloud's identities",
            where=str(device),
            remedy=f"leave out --issuer, or say --issuer {CLOUD_TRUST_DOMAIN}",
        )
    return judge
