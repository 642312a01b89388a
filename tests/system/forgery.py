"""Certificates that no issuer would sign, signed with the roots of a running building."""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import certificates, own_svid
from plantroom.certs.certificates import Order
from plantroom.lab import issuers
from plantroom.lab.building import TRUST_DOMAIN
from plantroom.lab.layout import Layout
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.system.conftest import Building


def forged(
    building: Building, signer: str, spiffe_id: SpiffeId, *, at_s: int | None = None
) -> Identity:
    """Sign an SVID with one of the building's own roots, whatever its issuer would say."""
    layout = Layout(building.state)
    issuer = issuers.building(layout) if signer == "building" else issuers.cloud(layout)
    folder = issuer.folder / "authority"
    root = x509.load_pem_x509_certificate((folder / "root-1.pem").read_bytes())
    root_key = serialization.load_pem_private_key((folder / "root-1.key").read_bytes(), None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    key = certificates.new_key()
    order = Order(spiffe_id=spiffe_id, public_key=key.public_key(), ttl_s=600)
    now_s = int(dt.datetime.now(dt.UTC).timestamp()) if at_s is None else at_s
    leaf = certificates.svid(order, issuer=root, key=root_key, now_s=now_s)
    svid = own_svid.read_svid(
        leaf.public_bytes(serialization.Encoding.PEM), certificates.key_pem(key)
    )
    roots = {TRUST_DOMAIN: issuers.building(layout).authority().bundle()}
    return Identity(svid=svid, bundles=roots, revision=1)
