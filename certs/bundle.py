"""Trust bundles as JSON Web Key Sets: what is served, stored and exchanged.

Source: SPIFFE Trust Domain and Bundle 4; SPIFFE X509-SVID 6; RFC 7517.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from plantroom.certs import der, pem
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import TrustBundle

BUNDLE_BYTES_MAX = 1024 * 1024
ROOTS_MAX = 64
X509_USE = "x509-svid"
_EC, _RSA = bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a864886f70d010101")
_CURVES = {
    bytes.fromhex("2a8648ce3d030107"): "P-256",
    bytes.fromhex("2b81040022"): "P-384",
    bytes.fromhex("2b81040023"): "P-521",
}


def to_jwks(bundle: TrustBundle) -> dict[str, Any]:
    """Return the bundle as a JWKS; each key also has the parameters of its kind (RFC 7518 6)."""
    return {
        "keys": [_jwk(root) for root in bundle.roots_der],
        "spiffe_sequence": bundle.sequence,
        "spiffe_refresh_hint": bundle.refresh_hint_s,
    }


def from_jwks(trust_domain: str, table: object) -> TrustBundle:
    """Build a bundle; keys of another use or kind are left out (SPIFFE-TDB 4.2.2, X509-SVID 6.2).

    Raises:
        IdentityError: with reason `bad-bundle`, naming what is wrong.
    """
    keys = table.get("keys") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(keys, list):
        raise _bad("it has no list of keys", trust_domain)
    roots = tuple(
        _root(key["x5c"], trust_domain)
        for key in keys
        if isinstance(key, dict) and key.get("use") == X509_USE and key.get("x5c")
    )
    if len(roots) > ROOTS_MAX:
        raise _bad(f"it has {len(roots)} roots, the limit is {ROOTS_MAX}", trust_domain)
    return TrustBundle(
        trust_domain=trust_domain,
        roots_der=roots,
        sequence=_number(table, "spiffe_sequence", 0, trust_domain),
        refresh_hint_s=_number(table, "spiffe_refresh_hint", 300, trust_domain),
    )


def to_json(bundle: TrustBundle) -> bytes:
    """Return the bundle document that `GET /bundle` serves."""
    return json.dumps(to_jwks(bundle), indent=1).encode()


def from_json(trust_domain: str, data: bytes) -> TrustBundle:
    """Parse a bundle document.

    Raises:
        IdentityError: with reason `bad-bundle`.
    """
    return from_jwks(trust_domain, _loads(data, trust_domain))


def all_to_json(bundles: Mapping[str, TrustBundle]) -> bytes:
    """Return several bundles as one document (`bundles.json`): trust domain to JWKS."""
    return json.dumps({name: to_jwks(part) for name, part in bundles.items()}, indent=1).encode()


def all_from_json(data: bytes) -> dict[str, TrustBundle]:
    """Parse `bundles.json`.

    Raises:
        IdentityError: with reason `bad-bundle`.
    """
    return all_from_tables(_loads(data, "bundles"))


def all_from_tables(table: object) -> dict[str, TrustBundle]:
    """Build several bundles from parsed JSON.

    Raises:
        IdentityError: with reason `bad-bundle`.
    """
    if not isinstance(table, dict):
        raise _bad("it is not a map of trust domains", "bundles")
    return {name: from_jwks(name, part) for name, part in table.items()}


def from_file(trust_domain: str, data: bytes) -> dict[str, TrustBundle]:
    """Read whatever an operator was given: one bundle, several (`bundles.json`), or PEM roots.

    Raises:
        IdentityError: with reason `bad-bundle`.
    """
    if not data.lstrip().startswith(b"{"):
        return {trust_domain: from_pem(trust_domain, data)}
    table = _loads(data, trust_domain)
    if "keys" in table:
        return {trust_domain: from_jwks(trust_domain, table)}
    return all_from_tables(table)


def from_pem(trust_domain: str, data: bytes) -> TrustBundle:
    """Build a bundle from PEM roots; its sequence is 0, so that any published one replaces it.

    Raises:
        IdentityError: with reason `bad-bundle`.
    """
    roots = tuple(pem.decode(pem.CERTIFICATE, data))
    if not 1 <= len(roots) <= ROOTS_MAX:
        raise _bad(f"the PEM has {len(roots)} roots", trust_domain)
    for root in roots:
        der.certificate_facts(root)
    return TrustBundle(trust_domain=trust_domain, roots_der=roots)


def newer(old: TrustBundle | None, new: TrustBundle) -> bool:
    """Say whether `new` may replace `old`: a sequence never falls (SPIFFE-TDB 4.1.1)."""
    return old is None or new.sequence >= old.sequence


def replaces(old: TrustBundle | None, new: TrustBundle) -> bool:
    """Say whether `new` replaces what is kept of the same trust domain; False: it is the same.

    Bundles without a sequence (0) replace each other: the newest is the one that came last
    (SPIFFE Federation 4.2).

    Raises:
        IdentityError: with reason `bad-bundle` when it has no root; with `bundle-sequence` when
            its sequence is lower, or the same for other roots (SPIFFE-TDB 4.1.1).
    """
    if not new.roots_der:
        raise _bad("it has no root", new.trust_domain)
    if old is None or new.sequence > old.sequence:
        return True
    same = set(new.roots_der) == set(old.roots_der)
    if new.sequence < old.sequence or (not same and new.sequence):
        raise IdentityError(
            f"bundle has sequence {new.sequence}, known is {old.sequence}"
            f"{'' if new.sequence < old.sequence else ' with other roots'}",
            reason="bundle-sequence",
            where=new.trust_domain,
            remedy="was its issuer restored from a backup? plantroom identity bundle set --force",
        )
    return not same


def _loads(data: bytes, where: str) -> Any:
    if len(data) > BUNDLE_BYTES_MAX:
        raise _bad(f"it has more than {BUNDLE_BYTES_MAX} bytes", where)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _bad(f"it is not JSON: {error}", where) from None


def _bad(what: str, where: str) -> IdentityError:
    return IdentityError(f"not a trust bundle: {what}", reason="bad-bundle", where=where)


def _number(table: Mapping[str, Any], key: str, default: int, where: str) -> int:
    value = table.get(key, default)
    if type(value) is not int or not 0 <= value < 2**63:
        raise _bad(f"{key} is not a whole number", where)
    return value


def _root(chain: Any, where: str) -> bytes:
    # SPIFFE X509-SVID 6.2: a key without x5c was left out; of several certificates the first counts
    if not isinstance(chain, list) or not isinstance(chain[0], str):
        raise _bad("x5c is not a list of certificates", where)
    try:
        root = base64.b64decode(chain[0], validate=True)
    except (binascii.Error, ValueError):
        raise _bad("x5c is not base64", where) from None
    der.certificate_facts(root)
    return root


def _jwk(root: bytes) -> dict[str, Any]:
    jwk = {"use": X509_USE, "x5c": [base64.b64encode(root).decode()]}
    return _key_parameters(der.certificate_facts(root).public_key) | jwk


def _key_parameters(public_key: bytes) -> dict[str, Any]:
    _, start, end = der.read(public_key)
    (_, algorithm), (_, bits) = der.elements(public_key[start:end])
    oids = [value for tag, value in der.elements(algorithm) if tag == der.OID]
    key = bits[1:]  # no unused bits in any key
    if oids[0] == _EC and len(oids) == 2 and oids[1] in _CURVES and key[0] == 4:  # uncompressed
        size = len(key) // 2
        x, y = key[1 : 1 + size], key[1 + size :]
        return {"kty": "EC", "crv": _CURVES[oids[1]], "x": _base64url(x), "y": _base64url(y)}
    if oids[0] == _RSA:
        _, start, end = der.read(key)
        modulus, exponent = (value.lstrip(b"\0") for _, value in der.elements(key[start:end]))
        return {"kty": "RSA", "n": _base64url(modulus), "e": _base64url(exponent)}
    raise IdentityError("root has a key of an unknown kind", reason="bad-bundle")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
