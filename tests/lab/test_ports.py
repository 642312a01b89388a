import socket

import pytest

from plantroom.lab.ports import BASE_DEFAULT, HOST, Ports
from plantroom.wire.errors import ConfigError
from tests.fakes.ports import free_port


def test_seven_ports_are_counted_from_the_base() -> None:
    ports = Ports.from_base(BASE_DEFAULT)
    assert (ports.gateway_mqtt, ports.gateway_enrol, ports.gateway_http) == (18830, 18831, 18832)
    assert (ports.cloud_mqtt, ports.cloud_enrol, ports.cloud_http) == (18833, 18834, 18835)
    assert ports.gateway_policy == 18836


def test_a_taken_port_is_named_with_the_option() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"port {port} \(gateway mqtt\) is taken.*--port-base"
        ):
            Ports.from_base(port).check_free()


def test_free_ports_pass_and_stay_free() -> None:
    base = free_port()
    ports = Ports(
        gateway_mqtt=base,
        gateway_enrol=base,
        gateway_http=base,
        cloud_mqtt=base,
        cloud_enrol=base,
        cloud_http=base,
    )
    ports.check_free()
    ports.check_free()
