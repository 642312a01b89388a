"""One root of an authority on disk: what it signs with, what peers see, what they trust.

`<name>.pem` holds the certificate that signs SVIDs and, under an upstream CA, those above it up to
the upstream root; `<name>.key` its key (0600), unless that is in an HSM; `<name>.cross.pem` the
same name and key signed by the root before it, so that who knows only that one is not locked out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import atomic, authority_hsm
from plantroom.certs.authority_manifest import FILE_BYTES_MAX, RootRecord, damaged
from plantroom.wire.errors import IdentityError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """`certificate` signs, `above` leads from it to `anchor`, which is what peers trust.

    `shown` goes into every chain behind the SVID.
    """

    name: str
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...]
    anchor: x509.Certificate
    shown: tuple[x509.Certificate, ...]

    @property
    def not_after_s(self) -> int:
        """When the first certificate of the way to the anchor expires."""
        way = (self.certificate, *self.above, self.anchor)
        return min(int(each.not_valid_after_utc.timestamp()) for each in way)

    @property
    def is_upstream(self) -> bool:
        """Whether somebody else's CA has signed it."""
        return self.certificate != self.anchor


def certificate_file(folder: Path, name: str) -> Path:
    """Return the file of its certificates."""
    return folder / f"{name}.pem"


def key_file(folder: Path, name: str) -> Path:
    """Return the file of its key."""
    return folder / f"{name}.key"


def cross_file(folder: Path, name: str) -> Path:
    """Return the file of its cross certificate."""
    return folder / f"{name}.cross.pem"


def load(folder: Path, name: str, *, crossed: bool) -> Root:
    """Read the certificates of a root; `crossed`: the root before it is still in the bundle.

    Raises:
        StorageCorruptError: when a file is damaged or missing.
    """
    file = certificate_file(folder, name)
    first, *others = _parsed(file, x509.load_pem_x509_certificates)
    anchor = others[-1] if others else first
    above = tuple(others[:-1])
    shown = (first, *above) if others else ()
    cross = cross_file(folder, name)
    if crossed and not others and cross.exists():
        shown = tuple(_parsed(cross, x509.load_pem_x509_certificates))
    return Root(name=name, certificate=first, above=above, anchor=anchor, shown=shown)


def load_key(folder: Path, record: RootRecord, root: Root) -> ec.EllipticCurvePrivateKey:
    """Return the key that signs; one in an HSM is looked for at its first signature.

    Raises:
        StorageCorruptError: when the file is damaged or missing, or it is another's key.
        IdentityError: when others may read it.
    """
    public = root.certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise damaged(certificate_file(folder, root.name), "its key is not on an elliptic curve")
    if record.hsm:
        return authority_hsm.HsmKey(authority_hsm.Place(**record.hsm), public)
    file = key_file(folder, record.name)
    _check_private(file)
    key = _parsed(file, lambda data: serialization.load_pem_private_key(data, None))
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise damaged(file, "it is not an elliptic-curve key")
    if key.public_key() != public:
        raise damaged(file, f"it does not belong to {root.name}.pem")
    return key


def pem(certificates: tuple[x509.Certificate, ...]) -> bytes:
    """Write certificates one after the other."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def _check_private(path: Path) -> None:
    if not path.exists():
        raise damaged(path, "it is missing")
    with atomic.translated(path):
        mode = path.stat().st_mode
    if mode & 0o077:
        raise IdentityError(
            "root key is readable by others",
            reason="key-mode",
            where=str(path),
            remedy="find out who has read it, then chmod 600",
        )


def _parsed(path: Path, parse: Callable[[bytes], T]) -> T:
    data = atomic.read(path, bytes_max=FILE_BYTES_MAX)
    if data is None:
        raise damaged(path, "it is missing")
    try:
        return parse(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise damaged(path, f"it cannot be read: {error}") from error
