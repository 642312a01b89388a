"""One stream of identities from a SPIFFE Workload API: bytes in, identities out, no I/O, and light.

Every message is complete and replaces the one before. Source: SPIFFE Workload API 4 and 5; SPIFFE
Workload Endpoint 3 to 6.
"""

import pwd
from pathlib import Path

from plantroom.certs import own_svid
from plantroom.certs.grpc_stream import ServerStream
from plantroom.certs.renewal import retry_after_s
from plantroom.certs.workload_messages import (
    SECURITY_HEADER,
    SVIDS_METHOD,
    ReadSvid,
    identity_of,
    read_svids,
)
from plantroom.wire.errors import ConfigError, IdentityError, RefusedError, UnreachableError
from plantroom.wire.identity import Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

ENDPOINT_VARIABLE = "SPIFFE_ENDPOINT_SOCKET"  # SPIFFE Workload Endpoint 4
ANSWER_S_MAX = 10.0  # an agent gives the first message at once (SPIFFE Workload API 4.1)
RETRY_S_MAX = 5.0  # the agent is on this machine: asking often costs nobody anything
OVERDUE = 0.7  # agents renew at half life; one that is silent for so long is asked anew


def socket_path(address: str) -> Path:
    """Return the path in `unix:/path` or `unix:///path` (SPIFFE Workload Endpoint 4).

    Raises:
        ConfigError: when it is something else.
    """
    kind, _, rest = address.partition(":")
    if kind != "unix" or not rest.startswith("/") or (rest.startswith("//") and rest[2:3] != "/"):
        raise ConfigError(
            "workload API's address is not unix:/absolute/path",
            where=address[:200] or "empty",
            remedy="write the address of the SPIRE agent's socket",
        )
    return Path("/" + rest.lstrip("/"))


def owners_of(user: str) -> tuple[int, ...]:
    """Return the user, given by name or number, who may own the socket; none for the empty text.

    Raises:
        ConfigError: when there is no such user.
    """
    if not user:
        return ()
    try:
        return (int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid,)
    except KeyError:
        raise ConfigError(
            "no such user", where=user[:80], remedy="name the user that the agent runs as"
        ) from None


def wait_s(failures: int, *, chance: float) -> float:
    """Return how long to wait after this many failures in a row."""
    return min(RETRY_S_MAX, retry_after_s(failures, chance=chance))


def patience_s(svid: Svid, now_s: float) -> float:
    """Return how long an agent that gave this SVID may stay silent before it is asked anew."""
    life_s = svid.not_after_s - svid.not_before_s
    return max(ANSWER_S_MAX, life_s / 10, svid.not_before_s + OVERDUE * life_s - now_s)


class IdentityStream:
    """A call of FetchX509SVID at the socket `path`, of which only the SVID `wanted` is taken."""

    def __init__(
        self, path: Path, wanted: SpiffeId, *, read: ReadSvid = own_svid.read_svid
    ) -> None:
        self._path = path
        self._wanted = wanted
        self._read = read
        self._call = ServerStream(SVIDS_METHOD, dict([SECURITY_HEADER]))

    def begin(self) -> bytes:
        """Return what is sent first: the whole request."""
        return self._call.begin()

    def receive(self, data: bytes) -> tuple[tuple[Svid, dict[str, TrustBundle]] | None, bytes]:
        """Take what came (nothing: the end); return the newest identity in it and what to reply.

        Raises:
            IdentityError: when what the agent gives has not the wanted ID, or breaks a rule.
            RefusedError: when the agent refuses: it has no entry for this process.
            UnreachableError: when the connection or the call has ended.
        """
        if not data:
            raise self._gone("agent closed the connection")
        try:
            messages, replies = self._call.receive(data)
            found = self._newest(messages)
        except IdentityError as error:
            raise IdentityError(
                error.what, reason=error.reason, where=self._where, remedy=error.remedy
            ) from error
        except RefusedError as error:
            raise RefusedError(
                f"agent refuses, {error.what}",
                reason=error.reason,
                where=self._where,
                remedy="create an entry for this ID with selectors that this process has",
            ) from error
        except UnreachableError as error:
            raise self._gone(error.what) from error
        if self._call.ended:
            raise self._gone("agent ended the call")
        return found, replies

    @property
    def _where(self) -> str:
        return f"{self._wanted} at {self._path}"

    def _newest(self, messages: list[bytes]) -> tuple[Svid, dict[str, TrustBundle]] | None:
        if not messages:
            return None
        return identity_of(read_svids(messages[-1]), self._wanted, read=self._read)

    def _gone(self, what: str) -> UnreachableError:
        return UnreachableError(what, where=self._where, remedy="see whether the agent runs")
