"""The trust document: which keys may sign what, and how many of them it takes.

COSE_Sign; document N + 1 is signed under the thresholds of both N's root keys and its own, and no
number is skipped: so a device that slept through several walks them all. The idea is TUF's root
role (TUF specification 1.0.33, 5.3), in a size that fits one MQTT message.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plantroom.wire import cbor, cose, shape
from plantroom.wire.cose import PublicKey, Signed, Signer, Verify, malformed
from plantroom.wire.errors import RejectedError

ROLES = ("root", "author", "head")
KEYS_MAX = 16
ROOT_KEYS, ROOT_THRESHOLD = 3, 2  # what `plantroom ota trust` makes unless told otherwise
_KIND = "plantroom-trust"
_TYPE, _VERSION, _EXPIRY, _ROLES, _KEYS = 1, 2, 4, 10, 11
_WHAT = "trust"
_error = malformed(_WHAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Keys of one role, and how many of them have to sign."""

    threshold: int
    keys: Mapping[bytes, PublicKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """One version of the trust document."""

    version: int
    expires_s: int
    root: Role
    author: Role
    head: Role

    def role(self, name: str) -> Role:
        """Return a role by its name."""
        found: Role = getattr(self, name)
        return found


def read(data: bytes) -> tuple[Trust, Signed]:
    """Read a trust document; its signatures are for the caller to check.

    Raises:
        RejectedError: `malformed`, or `bad-threshold` for one that no set of keys can meet.
    """
    signed = cose.read_sign(data, _WHAT)
    table = cbor.loads_exact(signed.payload, bytes_max=cose.DOCUMENT_BYTES_MAX, error=_error)
    if not isinstance(table, dict) or set(table) != {_TYPE, _VERSION, _EXPIRY, _ROLES, _KEYS}:
        raise _error("has not just its five members")
    version, expires_s = table[_VERSION], table[_EXPIRY]
    numbers = type(version) is int and type(expires_s) is int
    if (
        table[_TYPE] != _KIND
        or not numbers
        or not 0 < version < 2**31
        or not 0 <= expires_s < 2**53
    ):
        raise _error("type, version or expiry is not what it should be")
    keys = _read_keys(table[_KEYS])
    roles = table[_ROLES]
    if not isinstance(roles, dict) or set(roles) != set(ROLES):
        raise _error(f"roles are not {', '.join(ROLES)}")
    made = {name: _read_role(name, roles[name], keys) for name in ROLES}
    return Trust(version=version, expires_s=expires_s, **made), signed


def _read_keys(value: Any) -> dict[bytes, PublicKey]:
    if not isinstance(value, dict) or not 0 < len(value) <= KEYS_MAX:
        raise _error(f"keys are not a map of up to {KEYS_MAX}")
    made = {}
    for kid, row in value.items():
        algorithm, raw = shape.from_plain(tuple[int, bytes], row, _error, "a key")
        key = PublicKey(algorithm=algorithm, raw=raw)
        if kid != key.kid:
            raise _error("a key has another key's name")
        made[kid] = key
    return made


def _read_role(name: str, value: Any, keys: Mapping[bytes, PublicKey]) -> Role:
    threshold, kids = shape.from_plain(tuple[int, tuple[bytes, ...]], value, _error, name)
    if len(set(kids)) != len(kids) or not set(kids) <= set(keys):
        raise _error(f"{name} names a key twice, or one that is not there")
    if not 1 <= threshold <= len(kids):
        raise RejectedError(
            f"{name} wants {threshold} signatures of {len(kids)} keys", code="bad-threshold"
        )
    return Role(threshold=threshold, keys={kid: keys[kid] for kid in kids})


def check(signed: Signed, role: Role, verify: Verify) -> None:
    """Check that enough root keys of this role have signed.

    Raises:
        RejectedError: `trust-threshold`.
    """
    cose.check_threshold(
        signed,
        keys=role.keys,
        threshold=role.threshold,
        verify=verify,
        what=_WHAT,
        code="trust-threshold",
    )


def first(data: bytes, verify: Verify) -> Trust:
    """Read the trust document that a device was given when it was set up: it has to sign itself.

    Raises:
        RejectedError: `malformed`, `bad-threshold` or `trust-threshold`.
    """
    trust, signed = read(data)
    check(signed, trust.root, verify)
    return trust


def following(current: Trust, data: bytes, verify: Verify) -> Trust:
    """Read the successor of `current`.

    Raises:
        RejectedError: `malformed`, `bad-threshold`, `trust-version` or `trust-threshold`.
    """
    trust, signed = read(data)
    if trust.version != current.version + 1:
        raise RejectedError(
            f"trust {trust.version} does not follow {current.version}", code="trust-version"
        )
    check(signed, current.root, verify)
    check(signed, trust.root, verify)
    return trust


def payload(
    *,
    version: int,
    expires_s: int,
    roles: Mapping[str, tuple[int, Collection[PublicKey]]],
) -> bytes:
    """Encode what is to be signed: per role its threshold and keys."""
    keys = {key.kid: key for _, members in roles.values() for key in members}
    return cbor.dumps(
        {
            _TYPE: _KIND,
            _VERSION: version,
            _EXPIRY: expires_s,
            _ROLES: {
                name: [threshold, sorted(key.kid for key in members)]
                for name, (threshold, members) in roles.items()
            },
            _KEYS: {kid: [key.algorithm, key.raw] for kid, key in keys.items()},
        }
    )


def build(content: bytes, signers: Sequence[Signer]) -> bytes:
    """Sign a trust document's payload."""
    return cose.sign(content, signers)
