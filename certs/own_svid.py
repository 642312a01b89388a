"""One's own SVID, read without `cryptography`: it came from one's own issuer."""

import ssl

from plantroom.certs import der, pem
from plantroom.wire.errors import IdentityError, SpiffeIdError
from plantroom.wire.identity import Svid
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.tls import load_svid

CHAIN_LENGTH_MAX = 8


def read_svid(chain_pem: bytes, key_pem: bytes) -> Svid:
    """Read one's own SVID, as the issuer gave it; whether the key fits is `key_belongs`.

    Raises:
        IdentityError: when it is not a chain, or has not exactly one SPIFFE ID.
    """
    chain = pem.decode(pem.CERTIFICATE, chain_pem)
    if not 1 <= len(chain) <= CHAIN_LENGTH_MAX:
        raise IdentityError(f"chain has {len(chain)} certificates", reason="bad-certificate")
    facts = der.certificate_facts(chain[0])
    if len(facts.uris) != 1:  # SPIFFE X509-SVID 2
        raise IdentityError(f"SVID has {len(facts.uris)} URI SANs, one is wanted", reason="uri-san")
    try:
        spiffe_id = SpiffeId.parse(facts.uris[0])
    except SpiffeIdError as error:
        raise IdentityError(str(error), reason="spiffe-id") from error
    return Svid(
        spiffe_id=spiffe_id,
        chain_pem=b"".join(pem.encode(pem.CERTIFICATE, part) for part in chain),
        key_pem=key_pem,
        serial=der.serial_text(facts.serial),
        not_before_s=facts.not_before_s,
        not_after_s=facts.not_after_s,
    )


def key_belongs(svid: Svid) -> bool:
    """Say whether OpenSSL takes this key for this certificate."""
    try:
        load_svid(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), svid)
    except IdentityError:
        return False
    return True
