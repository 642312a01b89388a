import pytest

from plantroom.broker.errors import LimitError
from plantroom.broker.packets import Connect, Publish
from plantroom.broker.properties import NONE, Properties, Property
from plantroom.broker.quotas import check_connect, check_filter, check_filters
from plantroom.broker.settings import BrokerLimits

LIMITS = BrokerLimits(
    client_id_bytes_max=23,
    will_bytes_max=10,
    user_properties_max=32,
    subscribe_filters_max=2,
    topic_levels_max=2,
)
MANY: Properties = {Property.USER: (("k", "v"),) * 33}
SOME: Properties = {Property.USER: (("k", "v"),) * 32}


def made(
    client_id: str = "c", payload: bytes = b"", mine: Properties = NONE, its: Properties = NONE
) -> Connect:
    will = Publish(topic="w", payload=payload, properties=its)
    return Connect(
        version=5, client_id=client_id, clean_start=True, keepalive_s=0, will=will, properties=mine
    )


def test_connect_within_its_limits_passes() -> None:
    check_connect(made("c" * 23, b"x" * 10, SOME, SOME), LIMITS)


@pytest.mark.parametrize(
    ("packet", "limit"),
    [
        (made("\u00e9" * 12), "client_id_bytes_max"),
        (made(payload=b"x" * 11), "will_bytes_max"),
        (made(mine=MANY), "user_properties_max"),
        (made(its=MANY), "user_properties_max"),
    ],
)
def test_what_is_too_large_names_its_setting(packet: Connect, limit: str) -> None:
    with pytest.raises(LimitError) as caught:
        check_connect(packet, LIMITS)
    assert caught.value.limit == limit


def test_filters_are_counted_and_measured_without_their_share() -> None:
    check_filters(2, LIMITS)
    with pytest.raises(LimitError):
        check_filters(3, LIMITS)
    check_filter("$share/g/a/b", LIMITS)
    with pytest.raises(LimitError):
        check_filter("$share/g/a/b/c", LIMITS)
