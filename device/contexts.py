"""TLS contexts of the agent: they accept the gateway and no one else, whatever the clock says."""

import ssl
from collections.abc import Callable
from typing import Any

from plantroom.certs.time_floor import NO_CHECK_TIME, TimeFloor
from plantroom.wire import tls
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId


def to_gateway(
    gateway: SpiffeId, floor: TimeFloor, *, lightweight: bool
) -> Callable[[Identity], ssl.SSLContext]:
    """Make the function that makes them, one for each identity; see `certs.time_floor` for times.

    `lightweight` leaves rules of X.509-SVID that OpenSSL does not know to the gateway's issuer.
    """

    def context(identity: Identity) -> ssl.SSLContext:
        floor.learn(identity.svid.not_before_s)
        made = tls.client_context(
            identity,
            server_ids=(gateway,),
            check=floor.check_peer if lightweight else _every_rule(identity, floor),
        )
        made.verify_flags |= NO_CHECK_TIME
        return made

    return context


def _every_rule(identity: Identity, floor: TimeFloor) -> Callable[[Any], None]:
    from plantroom.certs import svid  # noqa: PLC0415 -- loads cryptography

    def check(connection: Any) -> None:
        svid.verify_peer(connection, identity)
        floor.check_peer(connection)

    return check
