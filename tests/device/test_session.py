import socket
import threading
import time
from collections.abc import Iterator

import pytest

from plantroom.device.session import Session, Target
from plantroom.device.waker import Waker
from plantroom.wire import tls
from plantroom.wire.errors import IdentityError, UnreachableError
from plantroom.wire.link import Message
from plantroom.wire.spiffe import SpiffeId
from tests.device.stand_ins import Gateway
from tests.fakes.issuer import BUILDING, CLOUD, Issuer

WILL = Message(topic="v1/building-1/presence/hvac-001", payload=b"\xa0", retain=True)
GATEWAY = SpiffeId.parse(f"spiffe://{BUILDING}/agent/gateway")


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway().serving() as one:
        yield one


def session(gateway: Gateway, *, protocol: int = 5, server: SpiffeId = GATEWAY) -> Session:
    target = Target(
        host="127.0.0.1",
        port=gateway.port,
        client_id="hvac-001",
        protocol=protocol,
        keepalive_s=60,
        timeout_s=60,
    )
    context = tls.client_context(gateway.device_identity(), server_ids=(server,))
    return Session(target, context, WILL)


@pytest.mark.parametrize("protocol", [4, 5])
def test_publish_is_answered(gateway: Gateway, protocol: int) -> None:
    one = session(gateway, protocol=protocol)
    one.open()
    mid = one.publish(Message(topic="v1/building-1/telemetry/hvac-001", payload=b"\x80"))
    while not one.acks:
        one.step(1)
    assert one.acks == [(mid, 0)]
    one.close()
    one.close()


@pytest.mark.parametrize("protocol", [4, 5])
def test_messages_of_a_subscription_are_collected(gateway: Gateway, protocol: int) -> None:
    one = session(gateway, protocol=protocol)
    one.open()
    one.subscribe("v1/building-1/call/hvac-001/+/+")
    topic = "v1/building-1/call/hvac-001/read_sensors/me"
    one.publish(Message(topic=topic, payload=b"x"))
    while not one.messages:
        one.step(1)
    assert one.messages == [(topic, b"x")]
    one.close()


def test_made_is_called_before_the_new_connection_takes_over(gateway: Gateway) -> None:
    old, new = session(gateway), session(gateway)
    old.open()
    alive: list[bool] = []

    def made() -> None:
        old.publish(Message(topic="v1/building-1/telemetry/hvac-001", payload=b"\x80"))
        while not old.acks:
            old.step(1)
        alive.append(True)
        old.close()

    new.open(made)
    assert alive == [True]
    new.close()


def test_server_with_another_identity_is_refused(gateway: Gateway) -> None:
    with pytest.raises(IdentityError, match="not spiffe"):
        session(gateway, server=SpiffeId.parse(f"spiffe://{BUILDING}/agent/other")).open()


def test_server_of_another_issuer_is_refused(gateway: Gateway) -> None:
    stranger = Issuer(CLOUD)
    identity = Issuer(BUILDING).identity("agent/hvac-001", stranger, Issuer(BUILDING))
    one = session(gateway)
    one._client._ssl_context = tls.client_context(identity, server_ids=(GATEWAY,))
    with pytest.raises(UnreachableError, match="TLS"):
        one.open()


def test_client_that_the_server_does_not_know_is_told_so(gateway: Gateway) -> None:
    stranger = Issuer(BUILDING).identity("agent/hvac-001", gateway.issuer)
    one = session(gateway)
    one._client._ssl_context = tls.client_context(stranger, server_ids=(GATEWAY,))
    with pytest.raises(UnreachableError):
        one.open()


def test_nobody_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    target = Target(
        host="127.0.0.1", port=port, client_id="x", protocol=5, keepalive_s=60, timeout_s=1
    )
    with pytest.raises(UnreachableError, match=rf"refused.*:{port}"):
        Session(target, None, WILL).open()


def test_server_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target(
            host="127.0.0.1",
            port=listener.getsockname()[1],
            client_id="x",
            protocol=5,
            keepalive_s=60,
            timeout_s=0.3,
        )
        with pytest.raises(UnreachableError, match="no CONNACK in time"):
            Session(target, None, WILL).open()


def test_lost_connection_raises_and_stays_lost(gateway: Gateway) -> None:
    one = session(gateway)
    one.open()
    gateway.on_loop(lambda broker: broker.disconnect(f"spiffe://{BUILDING}/agent/hvac-001"))

    def wait() -> None:
        for _ in range(50):
            one.step(0.2)

    with pytest.raises(UnreachableError, match="connection"):
        wait()
    with pytest.raises(UnreachableError):
        one.publish(WILL)


def test_waker_ends_a_step(gateway: Gateway) -> None:
    one, waker = session(gateway), Waker()
    one.open()
    begun_s = time.monotonic()
    threading.Timer(0.05, waker.wake).start()
    one.step(60, waker)
    assert time.monotonic() - begun_s < 30
    one.close()
    waker.close()
