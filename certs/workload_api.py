"""An identity from a SPIFFE Workload API: SPIRE's agent, or any other, over its Unix socket.

The stream is held open; every message is complete and replaces the one before. While there is no
entry for this process (PermissionDenied), no socket, or no agent, it is tried again. Source: SPIFFE
Workload API 4 and 5; SPIFFE Workload Endpoint 3 to 6.
"""

import asyncio
import contextlib
import logging
import random
import stat
from collections.abc import Iterator
from pathlib import Path

from plantroom.certs import der, pem, svid
from plantroom.certs.grpc_stream import ServerStream
from plantroom.certs.holder import IdentityHolder
from plantroom.certs.renewal import retry_after_s
from plantroom.wire.errors import IdentityError, PlantroomError, UnreachableError
from plantroom.wire.identity import Identity, Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

LOG = logging.getLogger("plantroom.certs.workload_api")
CONNECT_S_MAX = 10.0
_METHOD = "/SpiffeWorkloadAPI/FetchX509SVID"
_METADATA = {"workload.spiffe.io": "true"}  # SPIFFE Workload Endpoint 6.3.1
_PRIVATE_KEY = "PRIVATE KEY"
_SVIDS, _FEDERATED = 1, 3
_ID, _CHAIN, _KEY, _BUNDLE = 1, 2, 3, 4


class WorkloadApiSource(IdentityHolder):
    """The SVID with `spiffe_id`, of those that the agent at `address` (`unix:/path`) gives us."""

    def __init__(self, address: str, spiffe_id: SpiffeId) -> None:
        super().__init__()
        self._path = socket_path(address)
        self._spiffe_id = spiffe_id
        self.failures = 0
        self.last_error: Exception | None = None

    async def run(self) -> None:
        """Hold the stream open for ever; a broken one is opened again, and said in the log."""
        while True:
            try:
                await self._stream()
            except (PlantroomError, OSError, TimeoutError) as error:
                self.failures += 1
                if str(error) != str(self.last_error):
                    LOG.warning("workload API address=%s: %s", self._path, error)
                self.last_error = error
            await asyncio.sleep(retry_after_s(self.failures, chance=random.random()))  # noqa: S311 -- jitter

    async def _stream(self) -> None:
        _check_socket(self._path)
        async with asyncio.timeout(CONNECT_S_MAX):
            reader, writer = await asyncio.open_unix_connection(str(self._path))
        call = ServerStream(_METHOD, _METADATA)
        try:
            writer.write(call.begin())
            while not call.ended:
                data = await reader.read(64 * 1024)  # for ever: the agent speaks when there is news
                if not data:
                    raise UnreachableError("agent closed the connection", where=str(self._path))
                messages, replies = call.receive(data)
                writer.write(replies)
                for message in messages:
                    self._take(message)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _take(self, message: bytes) -> None:
        found, bundles = parse_response(message, self._spiffe_id)
        self.failures, self.last_error = 0, None
        known = self._identity
        if known is None or not _same(known, found, bundles):
            self.publish(found, bundles)
            LOG.info("got id=%s serial=%s", found.spiffe_id, found.serial)


def _same(known: Identity, found: Svid, bundles: dict[str, TrustBundle]) -> bool:
    return known.svid == found and dict(known.bundles) == bundles


def socket_path(address: str) -> Path:
    """Return the path in `unix:/path` or `unix:///path` (SPIFFE Workload Endpoint 4).

    Raises:
        IdentityError: with reason `workload-api-address`.
    """
    kind, _, rest = address.partition(":")
    if kind != "unix" or not rest.startswith("/") or (rest.startswith("//") and rest[2:3] != "/"):
        raise IdentityError(
            "workload API's address is not unix:/absolute/path",
            reason="workload-api-address",
            where=address[:200],
            remedy="set SPIFFE_ENDPOINT_SOCKET or identity.workload_api",
        )
    return Path("/" + rest.lstrip("/"))


def _check_socket(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise UnreachableError(
            f"no workload API: {error.strerror}", where=str(path), remedy="start the SPIRE agent"
        ) from error
    if not stat.S_ISSOCK(mode):  # a symbolic link could lead to anybody's socket
        raise IdentityError("not a socket", reason="workload-api-address", where=str(path))


def parse_response(message: bytes, wanted: SpiffeId) -> tuple[Svid, dict[str, TrustBundle]]:
    """Return the wanted SVID of an X509SVIDResponse, and the bundles that it names.

    Raises:
        IdentityError: with reason `wrong-id` when it is not among them, or the rule it breaks.
    """
    response = fields(message)
    offered = [fields(part) for part in response.get(_SVIDS, ())]
    names = [_text(one, _ID) for one in offered]
    if str(wanted) not in names:
        raise IdentityError(
            f"agent gives {', '.join(names) or 'nothing'}",
            reason="wrong-id",
            where=str(wanted),
            remedy="spire-server entry create for this process, or configure another ID",
        )
    chosen = offered[names.index(str(wanted))]
    chain = b"".join(pem.encode(pem.CERTIFICATE, part) for part in der.split(_one(chosen, _CHAIN)))
    found = svid.parse_svid(chain, pem.encode(_PRIVATE_KEY, _one(chosen, _KEY)))
    if found.spiffe_id != wanted:
        raise IdentityError("SVID is not the one it is called", reason="wrong-id")
    bundles = {wanted.trust_domain: _bundle(wanted.trust_domain, _one(chosen, _BUNDLE))}
    for part in response.get(_FEDERATED, ()):
        pair = fields(part)
        name = _text(pair, 1).removeprefix("spiffe://").rstrip("/")
        if name != wanted.trust_domain:
            bundles[name] = _bundle(name, _one(pair, 2))
    return found, bundles


def _bundle(trust_domain: str, data: bytes) -> TrustBundle:
    return TrustBundle(trust_domain=trust_domain, roots_der=tuple(der.split(data)))


def fields(data: bytes) -> dict[int, list[bytes]]:
    """Read a protobuf message's length-delimited fields; others are passed over.

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


def _one(message: dict[int, list[bytes]], number: int) -> bytes:
    values = message.get(number)
    if not values:
        raise _bad_message()
    return values[-1]


def _text(message: dict[int, list[bytes]], number: int) -> str:
    return _one(message, number).decode("utf-8", "replace")
