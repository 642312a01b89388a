"""One question to a SPIFFE Workload API and its first answer, for commands: blocking and light."""

import socket
import time
from collections.abc import Collection
from pathlib import Path

from plantroom.certs.grpc_stream import ServerStream
from plantroom.certs.workload_messages import (
    BUNDLES_METHOD,
    SECURITY_HEADER,
    SVIDS_METHOD,
    Offered,
    bundle_of,
    read_bundles,
    read_svids,
)
from plantroom.certs.workload_stream import ANSWER_S_MAX
from plantroom.wire import unix_socket
from plantroom.wire.errors import RefusedError, UnreachableError
from plantroom.wire.identity import TrustBundle

_READ_BYTES_MAX = 64 * 1024


def svids(path: Path, *, owners: Collection[int] = ()) -> Offered:
    """Return everything that the agent at this socket gives this process; nothing: no entry.

    Raises:
        UnreachableError: when there is no agent, or it does not answer.
        RefusedError: when it, or its socket, is not what it should be.
    """
    try:
        return read_svids(_first_message(path, SVIDS_METHOD, owners))
    except RefusedError as error:
        if error.reason == "permission-denied":
            return Offered(svids=())
        raise


def bundles(path: Path, *, owners: Collection[int] = ()) -> dict[str, TrustBundle]:
    """Return the bundles that the agent at this socket knows, by trust domain; none: no entry.

    Raises:
        UnreachableError: when there is no agent, or it does not answer.
        RefusedError: when it, or its socket, is not what it should be.
    """
    try:
        found = read_bundles(_first_message(path, BUNDLES_METHOD, owners))
    except RefusedError as error:
        if error.reason == "permission-denied":
            return {}
        raise
    return {name: bundle_of(name, roots) for name, roots in found.items()}


def _first_message(path: Path, method: str, owners: Collection[int]) -> bytes:
    until_s = time.monotonic() + ANSWER_S_MAX
    call = ServerStream(method, dict([SECURITY_HEADER]))
    with unix_socket.dial(path, owners=owners, timeout_s=ANSWER_S_MAX) as link:
        try:
            link.sendall(call.begin())
            while not call.ended:
                messages, replies = call.receive(_received(link, until_s))
                if messages:
                    return messages[0]
                link.sendall(replies)
        except OSError as error:
            raise UnreachableError(f"agent does not answer: {error}", where=str(path)) from error
        except UnreachableError as error:
            raise UnreachableError(error.what, where=str(path)) from error
    raise UnreachableError("agent ended the call", where=str(path))


def _received(link: socket.socket, until_s: float) -> bytes:
    link.settimeout(max(0.01, until_s - time.monotonic()))
    data = link.recv(_READ_BYTES_MAX)
    if not data:
        raise ConnectionResetError("agent closed the connection")
    return data
