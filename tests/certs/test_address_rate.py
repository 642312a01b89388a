import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from plantroom.certs import address_rate, enrolment_client, key_helper
from plantroom.certs.address_rate import AddressRate
from plantroom.certs.authority import Authority
from plantroom.certs.https import HttpsLimits
from plantroom.certs.registry import Registry
from plantroom.wire.spiffe import SpiffeId

Open = Callable[..., AbstractContextManager[Any]]


def test_a_burst_then_a_steady_rate_for_each_address_alone() -> None:
    rate = AddressRate(per_s=2, burst=3)
    assert [rate.take("a", 0) for _ in range(5)] == [True, True, True, False, False]
    assert rate.take("b", 0)
    assert [rate.take("a", 0.6) for _ in range(2)] == [True, False]
    assert [rate.take("a", 1000) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_stands_still_or_steps_back_gives_nothing_away() -> None:
    rate = AddressRate(per_s=1, burst=1)
    assert [rate.take("a", at_s) for at_s in (10, 5, 5)] == [True, False, False]


def test_addresses_are_remembered_up_to_a_limit() -> None:
    rate = AddressRate(per_s=1, burst=1)
    for number in range(address_rate.ADDRESSES_MAX + 10):
        rate.take(str(number), 0)
    assert len(rate._buckets) == address_rate.ADDRESSES_MAX


def test_a_flood_from_one_address_is_cut_off_and_others_are_served(
    enrolment: Open,
    registry: Registry,
    building: Authority,
    sensor_id: SpiffeId,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.create(sensor_id)
    limits = HttpsLimits(connections_per_address_per_s=0.001, connections_per_address_burst=3)
    made = key_helper.make(sensor_id)
    with enrolment(limits=limits) as port:
        address = ("127.0.0.1", port.address.port)
        for number in range(20):
            with socket.create_connection(address, 20, ("127.0.0.2", 0)) as plain:
                plain.settimeout(20)
                if number >= 3:
                    assert plain.recv(1) == b""  # before any handshake
        answer = enrolment_client.enrol(
            port.address,
            building.bundle(),
            token=registry.token_create(sensor_id),
            csr_pem=made.csr_pem,
        )
        assert answer.chain_pem
        figures = {str(m.labels): m.value for m in port.server.metrics() if m.labels}
    assert figures["{'reason': 'too-many-requests'}"] == 17
    lines = [one for one in caplog.records if "too-many-requests" in one.getMessage()]
    assert 1 <= len(lines) < 17  # a line a second: the audit is no target of a flood
