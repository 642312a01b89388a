"""Who has which SVID, by whom, until when, when it renews, and what the last renewal failed on."""

import time
from pathlib import Path
from typing import Any

from plantroom.certs import atomic
from plantroom.certs.enrolled import ERROR_FILE
from plantroom.certs.entry import Issued
from plantroom.certs.svid_watch import overdue_at_s
from plantroom.lab import ask, issuers, running, workload
from plantroom.lab.building import TRUST_DOMAIN, UPLINK_ID
from plantroom.lab.layout import Layout
from plantroom.wire.errors import UnreachableError
from plantroom.wire.identity import Svid
from plantroom.wire.rfc3339 import format_us
from plantroom.wire.spiffe import SpiffeId

_ERROR_BYTES_MAX = 16 * 1024


def shown(layout: Layout, spiffe_id: SpiffeId | None) -> list[dict[str, Any]]:
    """Return what was issued last for one ID, or for all of the building's; and who runs here.

    Raises:
        IdentityError: when the ID has no entry.
        UnreachableError: when nothing was ever set up here.
    """
    trust_domain = spiffe_id.trust_domain if spiffe_id else TRUST_DOMAIN
    own = _running(layout)
    issuer = issuers.responsible(layout, trust_domain)
    if issuer.agent is not None:  # SPIRE's
        return [
            _given(one) for one in workload.given(issuer.agent, spiffe_id, owners=issuer.owners)
        ]
    with issuer.registry() as registry:
        wanted = (
            [registry.show(spiffe_id).spiffe_id]
            if spiffe_id
            else [entry.spiffe_id for entry in registry.list()]
        )
        issued = [registry.last_issued(one) for one in wanted]
    found = [own.pop(str(one)) for one in wanted if str(one) in own]
    known = {one["spiffe_id"] for one in found}
    found += [
        _plain(layout, one) for one in issued if one is not None and str(one.spiffe_id) not in known
    ]
    return found if spiffe_id else found + list(own.values())


def _running(layout: Layout) -> dict[str, dict[str, Any]]:
    """Return what gateway and cloud say of their own SVIDs, by SPIFFE ID."""
    here = running.find(layout)
    if here is None:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for port in (here.ports.gateway_http, here.ports.cloud_http):
        try:
            said: dict[str, Any] = ask.get_json(port, "/api/status")
        except UnreachableError:
            continue
        for name in ("identity", "cloud_identity"):
            one = said.get(name)
            if one and "spiffe_id" in one:
                found[one["spiffe_id"]] = one
    return found


def _given(svid: Svid) -> dict[str, Any]:
    return {
        "spiffe_id": str(svid.spiffe_id),
        "serial": svid.serial,
        "issued_at": format_us(svid.not_before_s * 1_000_000),
        "not_after": format_us(svid.not_after_s * 1_000_000),
        "overdue": time.time() > overdue_at_s(svid.not_before_s, svid.not_after_s),
    }


def _plain(layout: Layout, issued: Issued) -> dict[str, Any]:
    begun_s = issued.at_us / 1e6
    middle_s = (begun_s + issued.not_after_s) / 2
    found = {
        "spiffe_id": str(issued.spiffe_id),
        "issuer": f"spiffe://{issued.spiffe_id.trust_domain}",
        "serial": issued.serial,
        "issued_at": format_us(issued.at_us),
        "not_after": format_us(issued.not_after_s * 1_000_000),
        "renews_at": format_us(round(middle_s * 1e6)),
        "overdue": time.time() > overdue_at_s(round(begun_s), issued.not_after_s),
    }
    error = atomic.read(_folder(layout, issued.spiffe_id) / ERROR_FILE, bytes_max=_ERROR_BYTES_MAX)
    return found | ({"last_error": error.decode(errors="replace").strip()} if error else {})


def _folder(layout: Layout, spiffe_id: SpiffeId) -> Path:
    if spiffe_id == UPLINK_ID:
        return layout.uplink_identity
    return layout.device_identity(spiffe_id.name)
