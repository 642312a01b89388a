"""Certificates as SPIRE makes them: subjects that say nothing, no host names, upstream CAs.

SPIRE's own roots differ by a serial number in their subject alone (1.16, looked at); those of an
upstream authority may have one name for all. So two trust domains whose roots have the same name, a
rotation of a root under the same name, and an intermediate of an upstream authority: chains are
found by key identifier, and pinned.
"""

import datetime as dt
import ssl
import threading
from contextlib import closing
from dataclasses import dataclass
from socket import socketpair

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from plantroom.certs import svid
from plantroom.certs.workload_messages import identity_of, read_svids
from plantroom.wire import tls
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.certs.conftest import BUILDING, CLOUD, USAGES
from tests.fakes.workload_agent import pb

GATEWAY = SpiffeId(BUILDING, "agent/gateway")
FRONT = SpiffeId(CLOUD, "agent/front")
DER = serialization.Encoding.DER


@dataclass
class Signer:
    trust_domain: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(DER)


def names(organization: str, number: str = "") -> x509.Name:
    found = [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
    ]
    return x509.Name(
        found + ([x509.NameAttribute(NameOID.SERIAL_NUMBER, number)] if number else [])
    )


def signed(
    subject: x509.Name,
    uri: str,
    key: ec.EllipticCurvePrivateKey,
    signer: Signer | None,
    usage: tuple[str, ...],
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    is_ca = "key_cert_sign" in usage
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(seconds=10))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(**(dict.fromkeys(USAGES, False) | dict.fromkeys(usage, True))),
            critical=True,
        )
        .add_extension(ski, critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
        )
    )
    if signer is not None:
        upper = x509.SubjectKeyIdentifier.from_public_key(signer.key.public_key())
        aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(upper)
        builder = builder.add_extension(aki, critical=False)
    if not is_ca:
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    return builder.sign(signer.key if signer else key, hashes.SHA256())


def authority(trust_domain: str, signer: Signer | None = None, *, number: str = "") -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ("key_cert_sign", "crl_sign")
    made = signed(names("SPIFFE", number), f"spiffe://{trust_domain}", key, signer, usage)
    return Signer(trust_domain, made, key)


def identity(
    spiffe_id: SpiffeId, signer: Signer, own: list[Signer], other: list[Signer], *upper: Signer
) -> Identity:
    """What a process reads from its agent; `upper`: intermediates in the chain."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ("digital_signature", "key_encipherment", "key_agreement")
    leaf = signed(names("SPIRE"), str(spiffe_id), key, signer, usage)
    message = pb.X509SVIDResponse(
        svids=[
            pb.X509SVID(
                spiffe_id=str(spiffe_id),
                x509_svid=leaf.public_bytes(DER) + b"".join(one.der for one in upper),
                x509_svid_key=key.private_bytes(
                    DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ),
                bundle=b"".join(one.der for one in own),
                hint="internal",
            )
        ],
        federated_bundles={f"spiffe://{other[0].trust_domain}": b"".join(one.der for one in other)},
    )
    found, bundles = identity_of(
        read_svids(message.SerializeToString()), spiffe_id, read=svid.parse_svid
    )
    return Identity(svid=found, bundles=bundles, revision=1)


def meet(server: Identity, client: Identity) -> tuple[SpiffeId, SpiffeId]:
    """Do a handshake, checked on both sides as our processes do; return whom each has met."""
    near, far = socketpair()
    met: list[SpiffeId] = []
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            with tls.server_context(server).wrap_socket(far, server_side=True) as connection:
                met.append(svid.verify_peer(connection, server).spiffe_id)
                connection.sendall(b".")
        except (OSError, IdentityError) as error:
            failures.append(error)
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        context = tls.client_context(client, server_ids=(server.svid.spiffe_id,))
        with closing(near), context.wrap_socket(near) as connection:
            other = svid.verify_peer(connection, client).spiffe_id
            connection.recv(1)
    except (OSError, IdentityError) as error:
        failures.append(error)
    finally:
        near.close()
        thread.join(20)
    if failures:
        refused = (IdentityError, ssl.SSLCertVerificationError)  # the other has an alert at most
        raise next((one for one in failures if isinstance(one, refused)), failures[0])
    return met[0], other


@pytest.fixture(params=["", "serial"])
def roots(request: pytest.FixtureRequest) -> tuple[list[Signer], list[Signer]]:
    """The building's and the cloud's, each with the one before; also four roots of one name."""
    below, above = (
        [authority(domain, number=request.param and f"{domain} {at}") for at in range(2)]
        for domain in (BUILDING, CLOUD)
    )
    return below, above


@pytest.mark.parametrize("number", [0, 1])
def test_roots_are_told_apart_whatever_their_names(
    roots: tuple[list[Signer], list[Signer]], number: int
) -> None:
    below, above = roots
    assert len({one.certificate.subject for one in (*below, *above)}) in {1, 4}
    gateway = identity(GATEWAY, below[number], below, above)
    front = identity(FRONT, above[1 - number], above, below)
    assert meet(front, gateway) == (GATEWAY, FRONT)
    assert meet(gateway, front) == (FRONT, GATEWAY)


def test_an_intermediate_of_an_upstream_authority_is_part_of_the_chain(
    roots: tuple[list[Signer], list[Signer]],
) -> None:
    below, above = roots
    middle = authority(BUILDING, below[0])
    gateway = identity(GATEWAY, middle, below, above, middle)
    front = identity(FRONT, above[0], above, below)
    assert meet(gateway, front) == (FRONT, GATEWAY)
    assert meet(front, gateway) == (GATEWAY, FRONT)


def test_the_clouds_spire_cannot_speak_for_the_building(
    roots: tuple[list[Signer], list[Signer]],
) -> None:
    below, above = roots
    forged = identity(GATEWAY, above[0], below, above)  # signed by the wrong domain's root
    front = identity(FRONT, above[0], above, below)
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):  # roots of one domain
        meet(forged, front)
    with pytest.raises(IdentityError) as caught:  # a server has the roots of both
        meet(front, forged)
    assert caught.value.reason == "wrong-trust-domain"
