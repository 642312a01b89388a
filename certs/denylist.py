"""Signed lists of the revoked, one per issuer: made by its authority, believed by its bundle.

A list is signed with the issuer's signing key, a root's or one that a root vouches for: so it can
be checked for as long as the root is trusted, also by a building that has been offline for weeks.
Its sequence only rises. An issuer has an empty list from its birth: nobody of a trust domain is let
in elsewhere before its list has come. What is denied is the union of the lists; so only the issuer
that revoked can restore.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import svid
from plantroom.certs.authority import Authority
from plantroom.wire import cbor, shape
from plantroom.wire.errors import EnvelopeError, IdentityError
from plantroom.wire.identity import TrustBundle

LIST_BYTES_MAX = 1024 * 1024
VOUCHERS_MAX = 5
_CONTEXT = b"plantroom denylist 1\0"  # what a root signs as a list is nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyList:
    """What one issuer has revoked: name to reason. Serials are upper-case hex."""

    issuer: str
    sequence: int
    at_us: int
    spiffe_ids: Mapping[str, str] = field(default_factory=dict)
    serials: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    body: bytes
    signature: bytes
    vouchers: tuple[bytes, ...] = ()


def signed(authority: Authority, listed: DenyList) -> bytes:
    """Return the document of this authority's list."""
    body = cbor.dumps(shape.to_plain(listed))
    signature = authority.sign(_CONTEXT + body)
    made = _Signed(body=body, signature=signature, vouchers=authority.vouchers())
    return cbor.dumps(shape.to_plain(made))


def verified(document: bytes, bundle: TrustBundle) -> DenyList:
    """Return the list in a document, if a root of its issuer's bundle has signed it.

    Raises:
        IdentityError: with reason `denylist-bad`, `denylist-signature` or `denylist-issuer`.
    """
    try:
        raw = cbor.loads(document, bytes_max=LIST_BYTES_MAX, error=EnvelopeError)
        outer: _Signed = shape.from_plain(_Signed, raw, EnvelopeError)
        _check_signature(outer, bundle)
        table = cbor.loads(outer.body, bytes_max=LIST_BYTES_MAX, error=EnvelopeError)
        listed: DenyList = shape.from_plain(DenyList, table, EnvelopeError)
    except EnvelopeError as error:
        raise IdentityError(
            f"not a denylist: {error.what}", reason="denylist-bad", where=bundle.trust_domain
        ) from error
    if listed.issuer != bundle.trust_domain:
        raise IdentityError(
            f"denylist is that of {listed.issuer[:80]}",
            reason="denylist-issuer",
            where=bundle.trust_domain,
        )
    return listed


def _check_signature(document: _Signed, bundle: TrustBundle) -> None:
    for signer in _signers(document, bundle):
        key = signer.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            continue
        try:
            key.verify(document.signature, _CONTEXT + document.body, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return
    raise IdentityError(
        "no root of the issuer's bundle has signed this denylist",
        reason="denylist-signature",
        where=bundle.trust_domain,
    )


def _signers(document: _Signed, bundle: TrustBundle) -> list[x509.Certificate]:
    """Return who may have signed: the roots, and an authority that one of them vouches for.

    It has to name the trust domain: under one root there may be authorities of others.
    """
    roots = [svid.load(root) for root in bundle.roots_der]
    if not 1 <= len(document.vouchers) <= VOUCHERS_MAX:
        return roots
    chain = [svid.load(each) for each in document.vouchers]
    whole = all(svid.is_issued_by(below, above) for below, above in pairwise(chain))
    anchored = any(svid.is_issued_by(chain[-1], root) for root in roots)
    names = [svid.signs_for(one) for one in chain]
    own = names[0] == {bundle.trust_domain} and set().union(*names) == names[0]
    return [chain[0], *roots] if whole and anchored and own else roots


def newer(known: DenyList | None, offered: DenyList) -> bool:
    """Say whether `offered` replaces `known`; False: it is the same.

    Raises:
        IdentityError: with reason `denylist-sequence` when the sequence is lower, or the same for
            another list: then it is one from before, whoever brings it.
    """
    if known is None or offered.sequence > known.sequence:
        return True
    if offered != known:
        raise IdentityError(
            f"denylist has sequence {offered.sequence}, known is {known.sequence}",
            reason="denylist-sequence",
            where=known.issuer,
            remedy="if the issuer was restored from a backup: let it revoke until it is above",
        )
    return False
