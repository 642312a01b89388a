"""Who may have an identity in a state folder: authorities, entries, join tokens, people's files.

Entries are made when a process is set up for the first time, and again when its issuer's disk was
lost; what an operator deletes or revokes later stays deleted and revoked. Join tokens live ten
minutes and are used once: `up` makes one for whoever has no SVID yet.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from plantroom.certs import atomic, bundle, enrolled, svid
from plantroom.certs.registry import Registry
from plantroom.lab import issuers, people
from plantroom.lab.building import (
    CLOUD_IDS,
    FRONT_ID,
    GATEWAY_ID,
    INSPECTOR_ID,
    OPERATOR_ID,
    UPLINK_ID,
    Device,
)
from plantroom.lab.issuers import Issuer
from plantroom.lab.layout import Layout
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import TrustBundle
from plantroom.wire.spiffe import SpiffeId

SERVER_NAMES = ("localhost",)
SERVER_ADDRESSES = ("127.0.0.1", "::1")  # ordinary MQTT clients check host names
_SERVERS = (GATEWAY_ID, FRONT_ID)


def prepare(layout: Layout, devices: tuple[Device, ...]) -> frozenset[str]:
    """Make what is missing; return the names of the devices that may have an SVID."""
    below, above = issuers.building(layout), issuers.cloud(layout)
    below_is_new, above_is_new = (not layout.config(kind).exists() for kind in ("gateway", "cloud"))
    if below_is_new:
        _begin_anew(below, above)
    if above_is_new:
        _begin_anew(above, below)
    authorities = {one.trust_domain: one.authority() for one in (below, above)}
    bundles = {name: authority.bundle() for name, authority in authorities.items()}
    enrolled.write_bundles(layout.cloud, {below.trust_domain: bundles[below.trust_domain]})
    _tell_list(above, below)
    with above.registry() as registry:
        if above_is_new:
            _register(registry, (*CLOUD_IDS, UPLINK_ID, OPERATOR_ID, INSPECTOR_ID))
        _let_join(registry, UPLINK_ID, layout.uplink_identity, bundles)
    with below.registry() as registry:
        if below_is_new:
            _register(registry, (GATEWAY_ID, OPERATOR_ID, INSPECTOR_ID))
        fresh = [
            one for one in devices if below_is_new or not layout.device_config(one.name).exists()
        ]
        _register(registry, [device.spiffe_id for device in fresh])
        admitted = frozenset(
            device.name
            for device in devices
            if _let_join(registry, device.spiffe_id, layout.device_identity(device.name), bundles)
        )
    refresh_people(layout)
    return admitted


def refresh_people(layout: Layout) -> None:
    """Give people's tools certificates that last a while, and the roots of now."""
    below, above = issuers.building(layout).authority(), issuers.cloud(layout).authority()
    bundles = {below.trust_domain: below.bundle()}
    for credentials, person in (
        (layout.inspector, INSPECTOR_ID),
        (layout.operator, OPERATOR_ID),
    ):
        people.ensure(credentials, person, above, bundles)


def _begin_anew(beginner: Issuer, other: Issuer) -> None:
    """Let the other side believe an issuer that is new, though it knows one of this name.

    Its disk was lost: the root is another one, and what was revoked is what the other side keeps.
    """
    with beginner.trust() as own, other.trust() as kept:
        name = beginner.trust_domain
        if name in kept.bundles():
            kept.adopt_bundle(beginner.authority().bundle(), force=True)
        if (known := kept.lists().get(name)) is not None:
            own.resume_list(known)


def _tell_list(teller: Issuer, hearer: Issuer) -> None:
    """Hand over the list of the revoked with the bundle: else nobody of the teller is let in."""
    with teller.trust() as own, hearer.trust() as other:
        if teller.trust_domain not in other.issuers():  # later ones come over the bridge
            other.adopt_list(own.own_list(teller.trust_domain), own_only=False)


def _register(registry: Registry, spiffe_ids: Iterable[SpiffeId]) -> None:
    for spiffe_id in spiffe_ids:
        serves = spiffe_id in _SERVERS
        registry.create(
            spiffe_id,
            dns=SERVER_NAMES if serves else (),
            ips=SERVER_ADDRESSES if serves else (),
        )


def _let_join(
    registry: Registry, spiffe_id: SpiffeId, folder: Path, bundles: Mapping[str, TrustBundle]
) -> bool:
    """Give a folder without an SVID the bundles and a join token; False for the not admitted.

    One whose root has been retired by force has none.
    """
    try:
        registry.admitted(spiffe_id)
        if _is_lost(folder, bundles):
            atomic.remove(folder / enrolled.SVID_FILE)  # nobody takes it any more
        if not (folder / enrolled.SVID_FILE).exists():
            enrolled.write_bundles(folder, bundles)
            enrolled.write_token(folder, registry.token_create(spiffe_id))
    except IdentityError:
        return False
    return True


def _is_lost(folder: Path, bundles: Mapping[str, TrustBundle]) -> bool:
    """Say whether its bundles have no root of now, or its SVID is of none."""
    data = atomic.read(folder / enrolled.BUNDLES_FILE, bytes_max=bundle.BUNDLE_BYTES_MAX)
    chain = atomic.read(folder / enrolled.SVID_FILE, bytes_max=bundle.BUNDLE_BYTES_MAX)
    try:
        known = bundle.all_from_json(data or b"{}")
        signed = svid.chain_of(chain or b"")
    except IdentityError:
        return True
    trusted = [svid.load(root) for part in bundles.values() for root in part.roots_der]
    is_old = signed and not any(svid.is_issued_by(one, root) for one in signed for root in trusted)
    return bool(is_old) or any(
        not set(known[name].roots_der) & set(part.roots_der)
        for name, part in bundles.items()
        if name in known
    )
