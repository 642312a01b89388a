"""Whom the agent accepts as its gateway, and when; real handshakes, clocks that are wrong."""

import contextlib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest

from plantroom.certs.time_floor import TimeFloor
from plantroom.device import contexts
from plantroom.wire import tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.issuer import Issuer

GATEWAY = SpiffeId("building-1.smart.local", "agent/gateway")
YEAR_S = 365 * 86_400


class Off:
    """This machine's clock, off by so much."""

    def __init__(self, off_s: float) -> None:
        self._off_us = round(off_s * 1e6)

    def wall_us(self) -> int:
        return SystemClock().wall_us() + self._off_us

    def monotonic_us(self) -> int:
        return SystemClock().monotonic_us()


@pytest.fixture(scope="module")
def building() -> Issuer:
    return Issuer("building-1.smart.local")


def shake_hands(server: Identity, client: ssl.SSLContext) -> None:
    with ThreadPoolExecutor(1) as pool, socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(10)
                with contextlib.suppress(OSError):
                    tls.server_context(server).wrap_socket(accepted, server_side=True).close()

        served = pool.submit(serve)
        try:
            with socket.create_connection(listener.getsockname(), 10) as plain:
                client.wrap_socket(plain).close()
        finally:
            served.result(60)


@pytest.mark.parametrize("lightweight", [True, False])
@pytest.mark.parametrize("off_s", [-56 * YEAR_S, -YEAR_S, 0.0])
def test_a_clock_that_is_behind_keeps_nobody_from_the_gateway(
    building: Issuer, off_s: float, *, lightweight: bool
) -> None:
    floor = TimeFloor(Off(off_s))
    make = contexts.to_gateway(GATEWAY, floor, lightweight=lightweight)
    shake_hands(building.identity("agent/gateway"), make(building.identity("agent/hvac-001")))


@pytest.mark.parametrize("lightweight", [True, False])
def test_a_gateway_whose_svid_has_expired_is_refused_also_by_what_is_only_known(
    building: Issuer, *, lightweight: bool
) -> None:
    server, own = building.identity("agent/gateway"), building.identity("agent/hvac-001")
    ahead = TimeFloor(Off(YEAR_S))
    taught = TimeFloor(Off(-56 * YEAR_S))
    taught.learn(server.svid.not_after_s + 1)
    for floor in (ahead, taught):
        context = contexts.to_gateway(GATEWAY, floor, lightweight=lightweight)(own)
        with pytest.raises(IdentityError) as caught:
            shake_hands(server, context)
        assert caught.value.reason == "expired"


def test_a_sensor_is_not_the_gateway(building: Issuer) -> None:
    make = contexts.to_gateway(GATEWAY, TimeFloor(SystemClock()), lightweight=True)
    with pytest.raises(IdentityError) as caught:
        shake_hands(
            building.identity("agent/energy-001"), make(building.identity("agent/hvac-001"))
        )
    assert caught.value.reason == "wrong-peer"
