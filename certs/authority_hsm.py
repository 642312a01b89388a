"""A root's key in an HSM, by PKCS#11: made there, and used there.

Only this module knows the optional package `python-pkcs11` (`pip install plantroom[hsm]`). The PIN
comes from `PLANTROOM_HSM_PIN`, or from the file that `PLANTROOM_HSM_PIN_FILE` names (systemd's
LoadCredential), and is kept nowhere. A session that has died is opened again once.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from plantroom.wire.errors import IdentityError

T = TypeVar("T")
PIN, PIN_FILE = "PLANTROOM_HSM_PIN", "PLANTROOM_HSM_PIN_FILE"
_CURVE = "secp256r1"
_LOCK = threading.RLock()  # a PKCS#11 session is one conversation
_SESSIONS: dict[tuple[str, str], Any] = {}  # one a token: a login is the whole process's


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a key is: the vendor's library, the token's label, the key's label."""

    module: str
    token: str
    label: str

    def __str__(self) -> str:
        return f"{self.token}/{self.label} ({self.module})"


def generate(place: Place) -> "HsmKey":
    """Make a P-256 key pair inside the token; it never leaves it.

    Raises:
        IdentityError: with reason `hsm` when that cannot be done, or there is such a key.
    """
    pkcs11 = _package()

    def make(session: Any) -> bytes:
        attributes = {pkcs11.Attribute.LABEL: place.label}
        if list(session.get_objects(attributes)):
            raise IdentityError(
                "the token has a key of this label",
                reason="hsm",
                where=str(place),
                remedy="choose another label",
            )
        curve = pkcs11.util.ec.encode_named_curve_parameters(_CURVE)
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: curve}, local=True
        )
        public, _ = parameters.generate_keypair(
            mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN,
            store=True,
            label=place.label,
            id=place.label.encode(),
        )
        return bytes(pkcs11.util.ec.encode_ec_public_key(public))

    key = serialization.load_der_public_key(_in_session(place, make))
    if not isinstance(key, ec.EllipticCurvePublicKey):  # pragma: no cover -- we asked for one
        raise IdentityError("the token made another kind of key", reason="hsm", where=str(place))
    return HsmKey(place, key)


def load(place: Place) -> "HsmKey":
    """Return a key that is in the token.

    Raises:
        IdentityError: with reason `hsm` when there is no such P-256 key.
    """
    pkcs11 = _package()

    def read(session: Any) -> bytes:
        wanted = {
            pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY,
            pkcs11.Attribute.LABEL: place.label,
            pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.EC,
        }
        found = list(session.get_objects(wanted))
        if len(found) != 1:
            raise IdentityError(
                f"the token has {len(found)} P-256 keys of this label",
                reason="hsm",
                where=str(place),
                remedy="see what there is: pkcs11-tool --list-objects",
            )
        return bytes(pkcs11.util.ec.encode_ec_public_key(found[0]))

    key = serialization.load_der_public_key(_in_session(place, read))
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != _CURVE:
        raise IdentityError("it is not a P-256 key", reason="hsm", where=str(place))
    return HsmKey(place, key)


class HsmKey(ec.EllipticCurvePrivateKey):
    """A private key as `cryptography` wants one, whose signatures the HSM makes."""

    def __init__(self, place: Place, public: ec.EllipticCurvePublicKey) -> None:
        self.place = place
        self._public = public

    def sign(
        self,
        data: Any,
        signature_algorithm: ec.EllipticCurveSignatureAlgorithm,
    ) -> bytes:
        """Sign the SHA-256 of the data (hashed here: tokens differ in what they can hash).

        Raises:
            IdentityError: with reason `hsm`.
        """
        if not isinstance(signature_algorithm.algorithm, hashes.SHA256 | Prehashed):
            raise IdentityError("an HSM key signs with SHA-256 only", reason="hsm")
        prehashed = isinstance(signature_algorithm.algorithm, Prehashed)
        digest = bytes(data) if prehashed else hashlib.sha256(data).digest()
        raw = _in_session(self.place, lambda session: _sign(session, self.place, digest))
        half = len(raw) // 2
        signature = encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        )
        self._check(signature, digest)
        return signature

    def _check(self, signature: bytes, digest: bytes) -> None:
        """Make sure that the key of this label is the certificate's."""
        try:
            decode_dss_signature(signature)
            self._public.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        except Exception as error:
            raise IdentityError(
                "the key in the token is not the root's", reason="hsm", where=str(self.place)
            ) from error

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public half."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Its size in bits."""
        return self._public.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Refuse: a root agrees on nothing."""
        raise NotImplementedError

    def private_numbers(self) -> NoReturn:
        """Refuse: the key stays where it is."""
        raise NotImplementedError

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,  # noqa: A002 -- cryptography's name
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        """Refuse: the key stays where it is."""
        raise NotImplementedError

    def __copy__(self) -> "HsmKey":
        return self

    def __deepcopy__(self, memo: object) -> "HsmKey":
        return self


def _sign(session: Any, place: Place, digest: bytes) -> bytes:
    pkcs11 = _package()
    wanted = {
        pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY,
        pkcs11.Attribute.LABEL: place.label,
    }
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        raise IdentityError(
            f"the token has {len(found)} private keys of this label",
            reason="hsm",
            where=str(place),
            remedy="give the root's key back its label, or restore it from the HSM's backup",
        )
    return bytes(found[0].sign(digest, mechanism=pkcs11.Mechanism.ECDSA))


def _in_session(place: Place, work: Callable[[Any], T]) -> T:
    """Do it in the token's session; one that has died is opened again, once."""
    with _LOCK, _translated(place):
        fresh = (place.module, place.token) not in _SESSIONS
        try:
            return work(_session(place))
        except _package().PKCS11Error:
            close(place)
            if fresh:
                raise
            return work(_session(place))


def _session(place: Place) -> Any:
    key = place.module, place.token
    if key not in _SESSIONS:
        token = _library(place.module).get_token(token_label=place.token)
        _SESSIONS[key] = token.open(rw=True, user_pin=_pin())
    return _SESSIONS[key]


def close(place: Place) -> None:
    """End the session with the token; the next signature opens another."""
    with _LOCK:
        session = _SESSIONS.pop((place.module, place.token), None)
        if session is not None:
            with contextlib.suppress(_package().PKCS11Error):
                session.close()


@cache
def _library(module: str) -> Any:
    return _package().lib(module)


def _package() -> Any:
    try:
        import pkcs11  # noqa: PLC0415 -- an optional package
        import pkcs11.util.ec  # noqa: PLC0415 -- as above
    except ImportError as error:
        raise IdentityError(
            "the root's key is in an HSM, and python-pkcs11 is not installed",
            reason="hsm",
            remedy="pip install 'plantroom[hsm]'",
        ) from error
    return pkcs11


def _pin() -> str:
    if pin := os.environ.get(PIN):
        return pin
    file = os.environ.get(PIN_FILE)
    if not file:
        raise IdentityError(
            "no PIN for the HSM", reason="hsm", where=PIN, remedy=f"set {PIN_FILE} or {PIN}"
        )
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise IdentityError(
            f"the HSM's PIN cannot be read: {error.strerror}", reason="hsm", where=file
        ) from error


@contextlib.contextmanager
def _translated(place: Place) -> Iterator[None]:
    try:
        yield
    except _package().PKCS11Error as error:
        raise IdentityError(
            f"the HSM cannot do it: {type(error).__name__} {error}".rstrip(),
            reason="hsm",
            where=str(place),
            remedy="check module, token, label and PIN",
        ) from error
