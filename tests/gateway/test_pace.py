from typing import Any

from plantroom.gateway.pace import Pace, Progress


def test_nothing_was_heard_until_something_was(lab: Any) -> None:
    clock = lab.FastClock()
    progress = Progress(clock)
    assert progress.heard_us is None
    before = clock.monotonic_us()
    progress.heard()
    assert progress.heard_us is not None
    assert progress.heard_us >= before


def test_the_defaults_are_those_of_the_settings() -> None:
    from plantroom.gateway.pace import pace_of
    from plantroom.gateway.settings import GatewaySettings

    assert pace_of(GatewaySettings()) == Pace()
