"""Ask the enrolment port: standard library only, blocking, every wait bounded.

HTTP is written out by hand: `http.client` would cost a device more memory than its readings.
"""

import contextlib
import hashlib
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from plantroom.certs import bundle
from plantroom.certs.time_floor import NO_CHECK_TIME
from plantroom.wire import tls
from plantroom.wire.errors import IdentityError, RefusedError, UnreachableError
from plantroom.wire.identity import Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

ANSWER_BYTES_MAX = 1024 * 1024
_GET_BUNDLE = b"GET /bundle HTTP/1.1\r\nHost: enrolment\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Whom to ask: address, and the identity that it must prove.

    `check_times` looks at a peer's times instead of OpenSSL, where the clock may be wrong.
    """

    host: str
    port: int
    spiffe_id: SpiffeId
    timeout_s: float = 30.0
    check_times: Callable[[Any], None] | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A new chain, and the bundles that come with it."""

    chain_pem: bytes
    bundles: dict[str, TrustBundle]


def enrol(server: Server, trust: TrustBundle, *, token: str, csr_pem: bytes) -> Answer:
    """Ask for a first SVID with a join token, or (without) for a key that was admitted.

    Raises:
        RefusedError: with the server's reason.
        IdentityError: when the server is not the one that `trust` vouches for.
        UnreachableError: when there is no answer in time.
    """
    table = {"token": token, "csr": csr_pem.decode()}
    return answer_of(server, post(server, trust, "/enrol", table))


def renew(server: Server, trust: TrustBundle, *, svid: Svid, csr_pem: bytes) -> Answer:
    """Ask for the next SVID with the current one.

    Raises:
        as `enrol` does.
    """
    table = {"csr": csr_pem.decode()}
    return answer_of(server, post(server, trust, "/renew", table, svid=svid))


def fetch_bundle(server: Server, *, root_sha256: str) -> TrustBundle:
    """Get the server's bundle, knowing only the SHA-256 of one of its roots (hex, of the DER).

    Asks twice: the first answer comes from a server that nothing vouches for, so of it only the
    root with that fingerprint is taken; the second comes from a server with an SVID of that root.

    Raises:
        IdentityError: with reason `bundle-fingerprint` when no root has it.
        UnreachableError: when there is no answer in time.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    offered = _bundle(server, _exchange(server, context, None, _GET_BUNDLE))
    wanted = root_sha256.replace(":", "").lower()
    roots = [root for root in offered.roots_der if hashlib.sha256(root).hexdigest() == wanted]
    if not roots:
        raise IdentityError(
            "no root of the bundle has this SHA-256",
            reason="bundle-fingerprint",
            where=str(server),
            remedy="compare it with what `plantroom identity bundle show` prints on the gateway",
        )
    trust = TrustBundle(trust_domain=server.spiffe_id.trust_domain, roots_der=tuple(roots))
    return _bundle(server, _request(server, trust, None, _GET_BUNDLE))


def _bundle(server: Server, body: bytes) -> TrustBundle:
    return bundle.from_json(server.spiffe_id.trust_domain, body)


def post(
    server: Server,
    trust: TrustBundle,
    path: str,
    table: Mapping[str, object],
    *,
    svid: Svid | None = None,
) -> Any:
    """Send JSON and return the JSON that comes back.

    Raises:
        as `enrol` does.
    """
    data = json.dumps(table).encode()
    head = b"POST %s HTTP/1.1\r\nHost: enrolment\r\nContent-Length: %d\r\n\r\n"
    body = _request(server, trust, svid, head % (path.encode(), len(data)) + data)
    try:
        return json.loads(body)
    except ValueError as error:
        raise _bad_answer(server, "it is not JSON") from error


def answer_of(server: Server, table: Any) -> Answer:
    """Read an answer that is an SVID.

    Raises:
        UnreachableError: when it is not one.
    """
    if not isinstance(table, dict) or not isinstance(table.get("chain"), str):
        raise _bad_answer(server, "it has no chain")
    return Answer(
        chain_pem=table["chain"].encode(), bundles=bundle.all_from_tables(table.get("bundles"))
    )


def _bad_answer(server: Server, what: str) -> UnreachableError:
    return UnreachableError(f"answer of the enrolment port is not one: {what}", where=str(server))


def _request(server: Server, trust: TrustBundle, svid: Svid | None, request: bytes) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the SPIFFE ID is the name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if server.check_times is not None:
        context.verify_flags |= NO_CHECK_TIME
    for root in trust.roots_der:
        context.load_verify_locations(cadata=root)
    if svid is not None:
        tls.load_svid(context, svid)
    return _exchange(server, context, trust, request)


def _exchange(
    server: Server, context: ssl.SSLContext, trust: TrustBundle | None, request: bytes
) -> bytes:
    until_s = time.monotonic() + server.timeout_s
    with _errors(server):
        plain = socket.create_connection((server.host, server.port), server.timeout_s)
        with plain, context.wrap_socket(plain) as connection:
            if trust is not None:
                _check(connection, server, trust)
            connection.sendall(request)
            status, answer = _read(connection, server, until_s)
    if status != 200:
        raise _refusal(server, status, answer)
    return answer


def _check(connection: ssl.SSLSocket, server: Server, trust: TrustBundle) -> None:
    found = tls.peer_id(connection)
    if found != server.spiffe_id or tls.verified_chain_der(connection)[-1] not in trust.roots_der:
        raise IdentityError(
            f"enrolment port is {found}, not {server.spiffe_id}",
            reason="wrong-peer",
            where=str(server),
        )
    if server.check_times is not None:
        server.check_times(connection)


@contextlib.contextmanager
def _errors(server: Server) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise IdentityError(
            f"enrolment port cannot be verified: {error.verify_message}",
            reason="server-unverified",
            where=str(server),
            remedy="check the clock, and that the bundle is this trust domain's newest",
        ) from error
    except ssl.SSLError as error:
        raise RefusedError(
            f"enrolment port refused the connection: {error.reason}",
            reason="handshake",
            where=str(server),
            remedy="the server's audit log says why",
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"enrolment port does not answer: {error.strerror or error}",
            where=str(server),
            remedy="check the address, that the gateway runs, and its audit log",
        ) from error


def _read(connection: ssl.SSLSocket, server: Server, until_s: float) -> tuple[int, bytes]:
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        if end:
            status, size = _parse_head(head, server)
            if len(body) >= size:
                return status, body[:size]
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left_s)
        part = connection.recv(16 * 1024)
        if not part:
            # asyncio's servers cut without an alert when a certificate does not verify
            raise ConnectionResetError("cut before the answer: link broken, or SVID not accepted")
        data += part
        if len(data) > ANSWER_BYTES_MAX:
            raise _bad_answer(server, f"it has more than {ANSWER_BYTES_MAX} bytes")


def _parse_head(head: bytes, server: Server) -> tuple[int, int]:
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ", 2)
    sizes = [
        line.split(b":", 1)[1].strip()
        for line in lines
        if line.lower().startswith(b"content-length:")
    ]
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise _bad_answer(server, "it is not HTTP")
    if len(sizes) != 1 or not sizes[0].isdigit():
        raise _bad_answer(server, "it has no length")
    return int(words[1]), int(sizes[0])


def _refusal(server: Server, status: int, body: bytes) -> RefusedError | UnreachableError:
    try:
        table = json.loads(body)
        reason, what = str(table["reason"]), str(table.get("what", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        reason, what = f"http-{status}", ""
    if status in {408, 429} or status >= 500:
        return UnreachableError(f"enrolment port cannot answer now: {reason}", where=str(server))
    return RefusedError(
        f"enrolment refused: {what or reason}",
        reason=reason,
        where=str(server),
        remedy="the gateway's audit log has the line",
    )
