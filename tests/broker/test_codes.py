import pytest

from plantroom.broker.codes import Code, connect_return


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Code.SUCCESS, 0),
        (Code.UNSUPPORTED_PROTOCOL_VERSION, 1),
        (Code.CLIENT_IDENTIFIER_NOT_VALID, 2),
        (Code.QUOTA_EXCEEDED, 3),
        (Code.NOT_AUTHORIZED, 5),
        (Code.TOPIC_NAME_INVALID, 5),
    ],
)
def test_mqtt_3_hears_the_nearest_of_its_own_codes(code: Code, expected: int) -> None:
    assert connect_return(code) == expected
