"""Certificates for people's tools: an inspector that reads everything, an operator that acts.

Tools such as MQTT Explorer cannot renew, so these live 12 hours; `up` renews them at half life.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from plantroom.certs import atomic, bundle
from plantroom.certs.authority import Authority
from plantroom.certs.credentials import TTL_S, write_folder, write_svid
from plantroom.certs.own_svid import read_svid
from plantroom.certs.window import SKEW_S
from plantroom.lab.layout import Credentials
from plantroom.wire.errors import IdentityError, UnreachableError
from plantroom.wire.identity import Identity, Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

_FILE_BYTES_MAX = 256 * 1024


def ensure(
    credentials: Credentials,
    spiffe_id: SpiffeId,
    authority: Authority,
    bundles: Mapping[str, TrustBundle],
) -> None:
    """Write this person's files, unless they are there with at least half their life left.

    And with the roots of now. `bundles`: those of the other trust domains.
    """
    folder = credentials.cert.parent
    everybody = {**bundles, authority.trust_domain: authority.bundle()}
    if _is_fresh(credentials, spiffe_id, everybody):
        return
    write_folder(authority, spiffe_id, folder, bundles=bundles, ttl_s=TTL_S)
    atomic.write(credentials.bundles, bundle.all_to_json(everybody), mode=atomic.PUBLIC)


def write(credentials: Credentials, svid: Svid, bundles: Mapping[str, TrustBundle]) -> None:
    """Write this person's files from an SVID that somebody else has issued."""
    write_svid(svid, credentials.cert.parent, bundles)
    atomic.write(credentials.bundles, bundle.all_to_json(bundles), mode=atomic.PUBLIC)


def _is_fresh(
    credentials: Credentials, spiffe_id: SpiffeId, bundles: Mapping[str, TrustBundle]
) -> bool:
    try:
        svid = _read(credentials)
        known = bundle.all_from_json(_bytes(credentials.bundles))
    except (IdentityError, UnreachableError):
        return False
    return svid.spiffe_id == spiffe_id and known == bundles and not _is_due(svid)


def _is_due(svid: Svid) -> bool:
    now_s = time.time()
    from_the_future = svid.not_before_s > now_s + SKEW_S  # of a clock that was ahead
    return from_the_future or svid.not_after_s - now_s < TTL_S / 2


def load(credentials: Credentials) -> Identity:
    """Return the identity that lies in these files.

    Raises:
        UnreachableError: when there is none: no building was ever started here.
        IdentityError: when it has expired or is damaged.
    """
    svid = _read(credentials)
    if svid.not_after_s <= time.time():
        raise IdentityError(
            "the certificate has expired",
            reason="expired",
            where=str(credentials.cert),
            remedy="start the building again: `plantroom up` renews it",
        )
    bundles = bundle.all_from_json(_bytes(credentials.bundles))
    return Identity(svid=svid, bundles=bundles, revision=1)


def _read(credentials: Credentials) -> Svid:
    return read_svid(_bytes(credentials.cert), _bytes(credentials.key))


def _bytes(path: Path) -> bytes:
    data = atomic.read(path, bytes_max=_FILE_BYTES_MAX)
    if data is None:
        raise UnreachableError(
            "no building was set up here",
            where=str(path),
            remedy="start one with `plantroom up`, or give its folder with --state",
        )
    return data
