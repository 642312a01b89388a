"""The messages of the SPIFFE Workload API's X.509 profile, read and written: no I/O, and light.

They are protocol buffers of a few length-delimited fields. Source: SPIFFE Workload API 5 and its
`workload.proto`; Protocol Buffers' encoding.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from plantroom.certs import der, own_svid, pem
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

SVIDS_METHOD = "/SpiffeWorkloadAPI/FetchX509SVID"
BUNDLES_METHOD = "/SpiffeWorkloadAPI/FetchX509Bundles"
SECURITY_HEADER = ("workload.spiffe.io", "true")  # SPIFFE Workload Endpoint 6.3.1

_PRIVATE_KEY = "PRIVATE KEY"
_SVIDS, _FEDERATED = 1, 3
_ID, _CHAIN, _KEY, _ROOTS, _HINT = 1, 2, 3, 4, 5
_BUNDLES = 2
_MAP_KEY, _MAP_VALUE = 1, 2
_NAMES_SHOWN_MAX = 5

ReadSvid = Callable[[bytes, bytes], Svid]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One SVID of a response; chain and roots are DER, one behind the other, the key is PKCS#8."""

    spiffe_id: str
    chain_der: bytes
    key_der: bytes = field(repr=False)
    roots_der: bytes
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A whole response: every SVID, and the roots of federated trust domains by name."""

    svids: tuple[Offer, ...]
    federated: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The SPIFFE IDs that are offered, in order: the first is the default one."""
        return tuple(offer.spiffe_id for offer in self.svids)


def write_svids(offered: Offered) -> bytes:
    """Return an X509SVIDResponse."""
    svids = b"".join(_field(_SVIDS, _offer(one)) for one in offered.svids)
    return svids + _bundle_map(_FEDERATED, offered.federated)


def read_svids(message: bytes) -> Offered:
    """Read an X509SVIDResponse.

    Raises:
        IdentityError: with reason `workload-api-message`.
    """
    response = fields(message)
    svids = []
    for part in response.get(_SVIDS, ()):
        found = fields(part)
        svids.append(
            Offer(
                spiffe_id=_text(_one(found, _ID)),
                chain_der=_one(found, _CHAIN),
                key_der=_one(found, _KEY),
                roots_der=_one(found, _ROOTS),
                hint=_text(found.get(_HINT, [b""])[-1]),
            )
        )
    return Offered(svids=tuple(svids), federated=_read_map(response.get(_FEDERATED, ())))


def write_bundles(bundles: Mapping[str, bytes]) -> bytes:
    """Return an X509BundlesResponse; `bundles`: DER roots by trust domain."""
    return _bundle_map(_BUNDLES, bundles)


def read_bundles(message: bytes) -> dict[str, bytes]:
    """Read an X509BundlesResponse.

    Raises:
        IdentityError: with reason `workload-api-message`.
    """
    return _read_map(fields(message).get(_BUNDLES, ()))


def identity_of(
    offered: Offered, wanted: SpiffeId, *, read: ReadSvid = own_svid.read_svid
) -> tuple[Svid, dict[str, TrustBundle]]:
    """Return the wanted one of the SVIDs that are offered, and every bundle that came with it.

    Raises:
        IdentityError: with reason `wrong-id` when it is not among them, or the rule it breaks.
    """
    offer = next((one for one in offered.svids if one.spiffe_id == str(wanted)), None)
    if offer is None:
        raise IdentityError(
            f"agent gives {_named(offered.names)}, not this ID",
            reason="wrong-id",
            where=str(wanted),
            remedy="create its entry with selectors that this process has, or configure another ID",
        )
    chain = b"".join(pem.encode(pem.CERTIFICATE, part) for part in der.split(offer.chain_der))
    found = read(chain, pem.encode(_PRIVATE_KEY, offer.key_der))
    if found.spiffe_id != wanted:
        raise IdentityError("SVID is not the one it is called", reason="wrong-id")
    if not own_svid.key_belongs(found):
        raise IdentityError("key is not this SVID's", reason="bad-key", where=str(wanted))
    roots = {**offered.federated, wanted.trust_domain: offer.roots_der}
    return found, {name: bundle_of(name, data) for name, data in roots.items()}


def bundle_of(trust_domain: str, roots: bytes) -> TrustBundle:
    """Return the bundle of these DER roots, one behind the other; their order says nothing."""
    return TrustBundle(trust_domain=trust_domain, roots_der=tuple(sorted(set(der.split(roots)))))


def _named(names: tuple[str, ...]) -> str:
    shown = ", ".join(name[:200] for name in names[:_NAMES_SHOWN_MAX]) or "nothing"
    more = len(names) - _NAMES_SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def _offer(offer: Offer) -> bytes:
    return b"".join((
        _field(_ID, offer.spiffe_id.encode()),
        _field(_CHAIN, offer.chain_der),
        _field(_KEY, offer.key_der),
        _field(_ROOTS, offer.roots_der),
        _field(_HINT, offer.hint.encode()) if offer.hint else b"",
    ))  # fmt: skip


def _bundle_map(number: int, bundles: Mapping[str, bytes]) -> bytes:
    """Write a map; its keys are trust domains as SPIFFE IDs (SPIFFE Workload API 5.2.1)."""
    return b"".join(
        _field(number, _field(_MAP_KEY, f"spiffe://{name}".encode()) + _field(_MAP_VALUE, roots))
        for name, roots in bundles.items()
    )


def _read_map(parts: list[bytes] | tuple[()]) -> dict[str, bytes]:
    found = {}
    for part in parts:
        pair = fields(part)
        name = _text(_one(pair, _MAP_KEY)).removeprefix("spiffe://").rstrip("/")
        found[name] = _one(pair, _MAP_VALUE)
    return found


def _field(number: int, value: bytes) -> bytes:
    return _write_varint(number << 3 | 2) + _write_varint(len(value)) + value


def _write_varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def fields(data: bytes) -> dict[int, list[bytes]]:
    """Read a message's length-delimited fields; others are passed over.

    Raises:
        IdentityError: with reason `workload-api-message`.
    """
    found: dict[int, list[bytes]] = {}
    for number, value in _walk(data):
        found.setdefault(number, []).append(value)
    return found


def _walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(data, at)
            continue
        if kind not in {1, 2, 5}:
            raise _bad_message()
        size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + size > len(data):
            raise _bad_message()
        if kind == 2:
            yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _bad_message()
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise _bad_message()


def _bad_message() -> IdentityError:
    return IdentityError("agent's message cannot be read", reason="workload-api-message")


def _one(message: Mapping[int, list[bytes]], number: int) -> bytes:
    values = message.get(number)
    if not values:
        raise _bad_message()
    return values[-1]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
